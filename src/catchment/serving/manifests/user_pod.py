"""What a user's pod spec may ask for: nothing that reaches beyond its pod.

A serving is applied with Catchment's rights in the cluster, which are more than those of whoever sends one.
The rules are those of the Pod Security Standard "restricted", and a few more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catchment.errors import InvalidField
from catchment.serving.manifests.names import check_dns_label

WHERE = "componentSpecs[0].spec"
POD_FIELDS = frozenset(
    {
        "affinity",
        "containers",
        "imagePullSecrets",
        "initContainers",
        "nodeSelector",
        "priorityClassName",
        "runtimeClassName",
        "schedulerName",
        "securityContext",
        "terminationGracePeriodSeconds",
        "tolerations",
        "topologySpreadConstraints",
        "volumes",
    }
)
CONTAINER_FIELDS = frozenset(
    {
        "args",
        "command",
        "env",
        "envFrom",
        "image",
        "imagePullPolicy",
        "livenessProbe",
        "name",
        "ports",
        "readinessProbe",
        "resources",
        "securityContext",
        "startupProbe",
        "volumeMounts",
        "workingDir",
    }
)
VOLUMES = frozenset({"configMap", "emptyDir", "ephemeral", "persistentVolumeClaim", "secret"})
IDENTITY = frozenset({"fsGroup", "fsGroupChangePolicy", "runAsGroup", "runAsUser", "supplementalGroups"})
"""What a security context may say; the rest is as "restricted" wants it."""
_SECRETS = frozenset({"ORMB_PASSWORD", "CATCHMENT_REGISTRY_PASSWORD"})


def check_pod(pod: Mapping[str, Any]) -> None:
    """Whether a user's pod spec may be applied.

    Raises:
        InvalidField: it asks for what it may not have, or has not exactly one container with at most one
            volume mount; names the field.
    """
    _only(pod, POD_FIELDS, WHERE)
    containers = pod.get("containers") or []
    if not isinstance(containers, list) or (pod and len(containers) != 1):
        raise InvalidField(f"{WHERE}.containers", "must be exactly one, that of the model's graph")
    for kind, group in (("containers", containers), ("initContainers", pod.get("initContainers") or [])):
        for number, container in enumerate(group):
            _check_container(container, f"{WHERE}.{kind}[{number}]")
    for number, volume in enumerate(pod.get("volumes") or []):
        _check_volume(volume, f"{WHERE}.volumes[{number}]")
    _check_identity(pod.get("securityContext") or {}, f"{WHERE}.securityContext")


def _check_container(container: Any, where: str) -> None:
    if not isinstance(container, Mapping):
        raise InvalidField(where, "must be an object")
    _only(container, CONTAINER_FIELDS, where)
    if len(container.get("volumeMounts") or []) > 1:
        raise InvalidField(f"{where}.volumeMounts", "may be one, where the model is put")
    for number, port in enumerate(container.get("ports") or []):
        if port.get("hostPort") or port.get("hostIP"):
            raise InvalidField(f"{where}.ports[{number}]", "hostPort and hostIP are not allowed")
    for number, variable in enumerate(container.get("env") or []):
        if variable.get("name") in _SECRETS and "value" in variable:
            raise InvalidField(
                f"{where}.env[{number}]",
                f"{variable['name']} in plain text is readable by everybody who sees the serving; "
                "name a secret in valueFrom.secretKeyRef",
            )
    _check_identity(container.get("securityContext") or {}, f"{where}.securityContext")


def _check_volume(volume: Any, where: str) -> None:
    if not isinstance(volume, Mapping):
        raise InvalidField(where, "must be an object")
    check_dns_label(str(volume.get("name", "")), f"{where}.name")
    _only({key: each for key, each in volume.items() if key != "name"}, VOLUMES, where)


def _check_identity(context: Any, where: str) -> None:
    """Harmless words of "restricted" may be there, since clients send them."""
    if not isinstance(context, Mapping):
        raise InvalidField(where, "must be an object")
    harmless = {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "privileged": False}
    rest = {
        key: value
        for key, value in context.items()
        if not (key in harmless and harmless[key] is value) and key != "readOnlyRootFilesystem"
    }
    rest = {key: value for key, value in rest.items() if value != {"drop": ["ALL"]}}
    rest = {key: value for key, value in rest.items() if value != {"type": "RuntimeDefault"}}
    _only(rest, IDENTITY, where)
    if rest.get("runAsUser") == 0:
        raise InvalidField(f"{where}.runAsUser", "must not be root (0)")


def _only(given: Mapping[str, Any], allowed: frozenset[str], where: str) -> None:
    for key in given:
        if key not in allowed:
            raise InvalidField(f"{where}.{key}", f"is not allowed; allowed are {', '.join(sorted(allowed))}")
