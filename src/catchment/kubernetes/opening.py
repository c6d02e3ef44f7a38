"""The way to the cluster: a kubeconfig file, or what a pod finds in its own file system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catchment.errors import SetupError
from catchment.settings import Settings

LONGEST_CONNECT_S = 5.0


def configuration(settings: Settings) -> Any:
    """A `kubernetes.client.Configuration` as the settings ask.

    Raises:
        SetupError: the package is not installed, or no such file, context or cluster is there.
    """
    try:
        from kubernetes import client, config
        from kubernetes.config import ConfigException
    except ImportError as error:
        raise SetupError(
            "the package 'kubernetes' is not installed; install catchment[kubernetes]"
        ) from error
    made = client.Configuration()
    path, context = settings.kubeconfig, settings.kubernetes_context or None
    try:
        if path is None and not context and _in_a_pod():
            config.load_incluster_config(client_configuration=made)
        else:
            config.load_kube_config(
                config_file=str(path.expanduser()) if path else None,
                context=context,
                client_configuration=made,
                persist_config=False,
            )
    except (ConfigException, OSError) as error:
        raise SetupError(
            f"no cluster is known: {error}; CATCHMENT_KUBECONFIG and CATCHMENT_KUBERNETES_CONTEXT name one"
        ) from error
    # What was not answered is the caller's to ask again, who knows how long there is.
    made.retries = False
    return made


def _in_a_pod() -> bool:
    return Path("/var/run/secrets/kubernetes.io/serviceaccount/token").is_file()
