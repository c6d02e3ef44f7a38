"""What Kubernetes 1.20 calls otherwise than the versions that Catchment asks for (1.30 and later).

Everything else of an object goes to the server as the library makes it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from catchment.kubernetes.client import Cluster
from catchment.kubernetes.kinds import Kind

API_VERSIONS = {"policy/v1": "policy/v1beta1", "autoscaling/v2": "autoscaling/v2beta2"}
"""Graduated later, with the same fields where Catchment uses them."""


class OlderCluster(Cluster):
    """Catchment's client, whose requests speak of what 1.20 knows."""

    def _send(self, method: str, kind: Kind, namespace: str, *names: str, **given: Any) -> Any:
        kind = replace(kind, api_version=API_VERSIONS.get(kind.api_version, kind.api_version))
        if isinstance(given.get("body"), dict):
            given["body"] = as_of_1_20(given["body"])
        return super()._send(method, kind, namespace, *names, **given)


def as_of_1_20(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest in the words of 1.20: its groups, the sleep before the end, the protocols of ports."""
    made = _without_sleep(manifest)
    if "apiVersion" in made:
        made["apiVersion"] = API_VERSIONS.get(made["apiVersion"], made["apiVersion"])
    if made.get("kind") == "Service":
        # Before 1.21 server-side apply did not know the default of a part of a port's key.
        made["spec"]["ports"] = [{"protocol": "TCP", **port} for port in made["spec"].get("ports", [])]
    return dict(made)


def _without_sleep(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_sleep(each) for each in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"sleep"} and set(value["sleep"]) == {"seconds"}:
        return {"exec": {"command": ["sleep", str(value["sleep"]["seconds"])]}}
    return {key: _without_sleep(each) for key, each in value.items()}
