"""The scale subresource."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.kubernetes_double.objects import Object, Objects
from tests.kubernetes_double.resources import Resource


def scale(
    objects: Objects,
    resource: Resource,
    namespace: str,
    name: str,
    verb: str,
    body: Any,
    patched: Callable[[Object, Any], Object],
) -> Object:
    """Read or write how many replicas an object has; the Scale object."""
    found = objects.get(resource, namespace, name)
    if verb in ("update", "patch"):
        wanted = body if verb == "update" else patched(_shown(found), body)

        def edit(live: Object) -> Object:
            live["spec"]["replicas"] = wanted["spec"]["replicas"]
            return live

        found = objects.change(resource, namespace, name, edit, manager="scale")
    return _shown(found)


def _shown(found: Object) -> Object:
    metadata = {key: found["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    spec = {"replicas": found["spec"].get("replicas", 1)}
    status = {"replicas": (found.get("status") or {}).get("replicas", 0)}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    }
