"""Deleting: finalizers, owner references, and the three kinds of propagation."""

from __future__ import annotations

from typing import Any

from tests.kubernetes_double.objects import Object, Objects, now
from tests.kubernetes_double.problems import Problem
from tests.kubernetes_double.resources import Resource

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
_WORDS = {"uid": "UID", "resourceVersion": "ResourceVersion"}
_FATES = {"uid": "deleted and then recreated", "resourceVersion": "modified"}


def delete(
    objects: Objects, resource: Resource, namespace: str, name: str, options: dict[str, Any]
) -> Object:
    """Begin an object's deletion; it may be gone already when this returns.

    Without a propagation policy the dependents of a Job stay, as they do in batch/v1; all others go.
    """
    found = objects.get(resource, namespace, name)
    _preconditions(found, options.get("preconditions") or {}, resource)
    default = "Orphan" if resource.kind == "Job" else "Background"
    policy = options.get("propagationPolicy") or default
    if policy not in ("Orphan", "Background", "Foreground"):
        raise Problem(422, f'DeleteOptions is invalid: propagationPolicy: Unsupported value: "{policy}"')
    if policy == "Orphan":
        _orphan(objects, found["metadata"]["uid"])
    finalizers = list(found["metadata"].get("finalizers") or [])
    if policy == "Foreground" and _dependents(objects, found["metadata"]["uid"]):
        finalizers.append(FOREGROUND)
    grace_s = _grace_s(found, options) if resource.kind == "Pod" else 0
    if grace_s or finalizers:
        # Of a pod the kubelet ends the processes, and removes it.
        return _mark(objects, resource, namespace, name, finalizers, grace_s)
    return objects.remove(resource, namespace, name)


def only(found: Object, *, unchanged: bool = False) -> dict[str, Any]:
    """Options that delete this object and no later one of its name; `unchanged`: only as it was seen."""
    names = ("uid", "resourceVersion") if unchanged else ("uid",)
    return {"preconditions": {name: found["metadata"][name] for name in names}}


def _preconditions(found: Object, wanted: dict[str, Any], resource: Resource) -> None:
    for key, value in wanted.items():
        if value and found["metadata"].get(key) != value:
            name = found["metadata"]["name"]
            raise Problem(
                409,
                f'Operation cannot be fulfilled on {_kind(resource)} "{name}": '
                f"the {_WORDS[key]} in the precondition ({value}) does not match the {_WORDS[key]} in record "
                f"({found['metadata'].get(key)}). The object might have been {_FATES[key]}",
            )


def _kind(resource: Resource) -> str:
    return f"{resource.kind}.{resource.group}" if resource.group else resource.kind


def _grace_s(pod: Object, options: dict[str, Any]) -> int:
    """How long a pod has for its end: nothing where nothing of it runs."""
    if not pod["spec"].get("nodeName") or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    asked = options.get("gracePeriodSeconds")
    return int(pod["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked)


def _mark(
    objects: Objects, resource: Resource, namespace: str, name: str, finalizers: list[str], grace_s: int
) -> Object:
    with objects.changed:
        before = objects._live(resource, namespace, name)
        after = {**before, "metadata": {**before["metadata"]}}
        after["metadata"].setdefault("deletionTimestamp", now(grace_s))
        after["metadata"].setdefault("deletionGracePeriodSeconds", grace_s)
        if finalizers:
            after["metadata"]["finalizers"] = finalizers
        return objects._changed(resource, before, after)


def _dependents(objects: Objects, uid: str) -> list[tuple[Resource, Object]]:
    return [
        (resource, found)
        for resource, found in objects.everything()
        if any(owner["uid"] == uid for owner in found["metadata"].get("ownerReferences") or [])
    ]


def _orphan(objects: Objects, uid: str) -> None:
    for resource, found in _dependents(objects, uid):
        metadata = found["metadata"]

        def edit(live: Object) -> Object:
            kept = [owner for owner in live["metadata"].get("ownerReferences") or [] if owner["uid"] != uid]
            live["metadata"]["ownerReferences"] = kept
            return live

        objects.change(resource, metadata.get("namespace", ""), metadata["name"], edit, manager="gc")


def collect(objects: Objects) -> None:
    """One pass of the garbage collector: dependents of what is gone go, waiting owners are let go."""
    with objects.changed:  # what is made meanwhile has owners that were not seen
        _collect(objects)


def _collect(objects: Objects) -> None:
    known = {found["metadata"]["uid"]: found for _, found in objects.everything()}
    for resource, found in objects.everything():
        metadata = found["metadata"]
        owners = [known.get(owner["uid"]) for owner in metadata.get("ownerReferences") or []]
        leaving = [
            owner is None or FOREGROUND in (owner["metadata"].get("finalizers") or []) for owner in owners
        ]
        if owners and all(leaving) and "deletionTimestamp" not in metadata:
            _quietly_delete(objects, resource, found)
        if FOREGROUND in (metadata.get("finalizers") or []) and not _dependents(objects, metadata["uid"]):
            _release(objects, resource, found)
        if resource.kind == "Namespace" and "deletionTimestamp" in metadata:
            objects.remove(resource, "", metadata["name"])


def _quietly_delete(objects: Objects, resource: Resource, found: Object) -> None:
    metadata = found["metadata"]
    try:
        delete(
            objects,
            resource,
            metadata.get("namespace", ""),
            metadata["name"],
            {"propagationPolicy": "Background"},
        )
    except Problem as problem:
        if problem.code != 404:
            raise


def _release(objects: Objects, resource: Resource, found: Object) -> None:
    def edit(live: Object) -> Object:
        kept = [each for each in live["metadata"].get("finalizers") or [] if each != FOREGROUND]
        live["metadata"]["finalizers"] = kept
        return live

    metadata = found["metadata"]
    objects.change(resource, metadata.get("namespace", ""), metadata["name"], edit, manager="gc")
