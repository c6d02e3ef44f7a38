"""Where pods fetch models from: the address with the digest, and how the registry is reached."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urlsplit

from catchment.errors import SetupError
from catchment.serving.manifests.runtimes import STORE, Layout
from catchment.serving.workload import Workload
from catchment.settings import Settings


def source_uri(workload: Workload, layout: Layout, settings: Settings) -> str:
    """What the initializer fetches, with the digest that it must have.

    Raises:
        SetupError: no registry is named.
    """
    host = registry_host(settings)
    query = {"digest": workload.model.digest, "layout": layout, "name": workload.serving.name}
    return f"catchment://{host}/{workload.model.reference}?{urlencode(query, safe=':')}"


def registry_host(settings: Settings) -> str:
    """Host and port of the registry as pods reach it. Raises SetupError when none is named."""
    if not settings.serving_registry:
        raise SetupError(
            "servings on clusters need CATCHMENT_SERVING_REGISTRY, the address that pods fetch models from, "
            "such as http://catchment-api.catchment:8080",
        )
    return urlsplit(settings.serving_registry).netloc


def registry_environment(settings: Settings) -> list[dict[str, Any]]:
    """How the initializer reaches the registry: its login by reference, never its value."""
    variables: list[dict[str, Any]] = [{"name": "ROOTPATH", "value": STORE}]
    if settings.serving_registry.startswith("http://"):
        variables.append({"name": "CATCHMENT_INITIALIZER_INSECURE_HTTP", "value": "1"})
    if settings.serving_registry_ca:
        variables.append(
            {"name": "CATCHMENT_INITIALIZER_CA_FILE", "value": "/etc/catchment/registry-ca/ca.crt"}
        )
    if secret := settings.serving_registry_secret:
        variables.append({"name": "CATCHMENT_REGISTRY_HOST", "value": registry_host(settings)})
        variables += [
            {
                "name": f"CATCHMENT_REGISTRY_{key.upper()}",
                "valueFrom": {"secretKeyRef": {"name": secret, "key": key}},
            }
            for key in ("username", "password")
        ]
    return variables
