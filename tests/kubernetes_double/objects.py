"""The objects of the double: every write gets a resourceVersion, watchers hear of it."""

from __future__ import annotations

import copy
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.kubernetes_double import applying, checking
from tests.kubernetes_double.applying import Manager
from tests.kubernetes_double.problems import Problem
from tests.kubernetes_double.resources import Resource

Key = tuple[str, str, str]
"""Qualified plural, namespace ("" for none), name."""
Object = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """One thing that happened. `before` is what the object was, {} when it was not."""

    version: int
    kind: str
    resource: Resource
    after: Object
    before: Object


def now(later_s: int = 0) -> str:
    """RFC 3339, whole seconds, as the server writes times."""
    return (datetime.now(UTC) + timedelta(seconds=later_s)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Objects:
    """All objects of one cluster. Safe from several threads."""

    resources: tuple[Resource, ...]
    changed: threading.Condition = field(default_factory=threading.Condition)
    history: list[Change] = field(default_factory=list)
    oldest: int = 0
    """Watches from before this version get 410."""
    _found: dict[Key, Object] = field(default_factory=dict)
    _owners: dict[str, applying.Owners] = field(default_factory=dict)
    _version: int = 1000

    def resource(self, plural: str) -> Resource:
        """By plural, `deployments` or `deployments.apps`."""
        for each in self.resources:
            if plural in (each.plural, each.qualified, each.kind):
                return each
        raise LookupError(f"the double has no {plural}")

    @property
    def version(self) -> int:
        """The newest resourceVersion."""
        return self._version

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """A copy of the object, or Problem 404."""
        with self.changed:
            return copy.deepcopy(self._live(resource, namespace, name))

    def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """A copy of the object, or None."""
        with self.changed:
            return copy.deepcopy(self._found.get((resource.qualified, namespace, name)))

    def list(self, resource: Resource, namespace: str = "") -> list[Object]:
        """Copies of all of a kind, by namespace and name."""
        with self.changed:
            keys = sorted(
                key for key in self._found if key[0] == resource.qualified and namespace in ("", key[1])
            )
            return [copy.deepcopy(self._found[key]) for key in keys]

    def everything(self) -> Iterator[tuple[Resource, Object]]:
        """All objects, with their resources."""
        for resource in self.resources:
            for found in self.list(resource):
                yield resource, found

    def create(
        self,
        resource: Resource,
        namespace: str,
        new: Object,
        manager: str = "",
        *,
        strict: bool = False,
        applied: bool = False,
    ) -> Object:
        """A new object. Problem 404 without its namespace, 409 for a taken name, 400 and 422 as checked."""
        made = copy.deepcopy(new)
        made["apiVersion"], made["kind"] = resource.api_version, resource.kind
        metadata = made.setdefault("metadata", {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
        if metadata.get("resourceVersion"):
            raise Problem(400, "resourceVersion should not be set on objects to be created")
        if resource.namespaced and metadata.setdefault("namespace", namespace) != namespace:
            raise Problem(400, "the namespace of the provided object does not match that of the request")
        if resource.status and resource.kind != "Pod":
            made.pop("status", None)
        checking.check(resource, made, strict=strict, applied=applied)
        with self.changed:
            self._require_namespace(resource, namespace)
            key = (resource.qualified, namespace, metadata["name"])
            if key in self._found:
                raise self._taken(resource, metadata["name"])
            metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now())
            if _has_generation(made):
                metadata["generation"] = 1
            owners = self._owners.setdefault(metadata["uid"], {})
            who = Manager(manager or "unknown", "Apply" if applied else "Update")
            applying.updated({}, made, owners, who, resource.custom)
            return self._store("ADDED", resource, made, {})

    def change(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        edit: Callable[[Object], Object],
        *,
        manager: str = "",
        status: bool = False,
        strict: bool = False,
    ) -> Object:
        """Write what `edit` makes of the object; a resourceVersion in it must be the stored one (409)."""
        with self.changed:
            before = self._live(resource, namespace, name)
            after = edit(copy.deepcopy(before))
            _check_version(resource, before, after)
            owners = self._owners[before["metadata"]["uid"]]
            after = self._completed(resource, before, after, status)
            if not status:
                checking.check(resource, after, strict=strict)
                checking.immutable(resource, before, after)
                who = Manager(manager or "unknown", "Update")
                applying.updated(before, after, owners, who, resource.custom)
            return self._changed(resource, before, after)

    def apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Object,
        manager: str,
        *,
        force: bool,
        strict: bool,
    ) -> tuple[Object, bool]:
        """Server-side apply; the object, and whether it is new."""
        if not manager:
            raise Problem(
                422,
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: '
                "Required value: is required for apply patch",
            )
        body = copy.deepcopy(body)
        body.setdefault("metadata", {}).setdefault("name", name)
        if (sent := body["metadata"]["name"]) != name:
            told = f"the name of the object ({sent}) does not match the name on the URL ({name})"
            raise Problem(400, told)
        if body["metadata"].get("managedFields"):
            raise Problem(400, "metadata.managedFields must be nil")
        body.pop("status", None)
        with self.changed:
            before = self._found.get((resource.qualified, namespace, name))
            if before is None:
                # Whatever version it was meant for: the object is new.
                body["metadata"].pop("resourceVersion", None)
                made = self.create(resource, namespace, body, manager, strict=strict, applied=True)
                return made, True
            _check_version(resource, before, body)
            uid = before["metadata"]["uid"]
            owners = copy.deepcopy(self._owners[uid])
            wanted = {key: value for key, value in body.items() if key not in ("apiVersion", "kind")}
            after = applying.apply(before, owners, wanted, manager, force=force, custom=resource.custom)
            checking.check(resource, after, strict=strict, applied=True)
            checking.immutable(resource, before, after)
            self._owners[uid] = owners
            return self._changed(resource, before, after), False

    def bind(self, namespace: str, name: str, node: str) -> None:
        """Put a pod on a node, as a scheduler does."""
        pods = self.resource("pods")
        with self.changed:
            before = self._live(pods, namespace, name)
            self._changed(pods, before, {**before, "spec": {**before["spec"], "nodeName": node}})

    def remove(self, resource: Resource, namespace: str, name: str) -> Object:
        """The object is gone at once."""
        with self.changed:
            before = self._live(resource, namespace, name)
            del self._found[(resource.qualified, namespace, name)]
            self._owners.pop(before["metadata"]["uid"], None)
            self._version += 1
            after = copy.deepcopy(before)
            after["metadata"]["resourceVersion"] = str(self._version)
            self._tell(Change(self._version, "DELETED", resource, after, before))
            return copy.deepcopy(after)

    def expire(self) -> None:
        """Forget what happened: watches from an older version get 410."""
        with self.changed:
            self._version += 1
            self.oldest = self._version
            self.changed.notify_all()

    def since(self, version: int, wait_s: float) -> list[Change]:
        """What happened after a version; waits for something, [] when the time is over. Problem 410."""
        deadline = time.monotonic() + wait_s
        with self.changed:
            while True:
                if version < self.oldest:
                    raise Problem(410, f"too old resource version: {version} ({self.oldest})")
                found = [change for change in self.history if change.version > version]
                left_s = deadline - time.monotonic()
                if found or left_s <= 0:
                    return found
                self.changed.wait(left_s)

    def _live(self, resource: Resource, namespace: str, name: str) -> Object:
        found = self._found.get((resource.qualified, namespace, name))
        if found is None:
            raise Problem(
                404,
                f'{resource.qualified} "{name}" not found',
                name=name,
                group=resource.group,
                kind=resource.plural,
            )
        return found

    def _taken(self, resource: Resource, name: str) -> Problem:
        message = f'{resource.qualified} "{name}" already exists'
        return Problem(409, message, "AlreadyExists", name=name, group=resource.group, kind=resource.plural)

    def _require_namespace(self, resource: Resource, namespace: str) -> None:
        if resource.namespaced and ("namespaces", "", namespace) not in self._found:
            raise Problem(404, f'namespaces "{namespace}" not found', name=namespace, kind="namespaces")

    def _completed(self, resource: Resource, before: Object, after: Object, status: bool) -> Object:
        """What the server keeps of a write: the status alone, or all but the status."""
        if status:
            return {**copy.deepcopy(before), "status": after.get("status") or {}}
        after = {**after, "apiVersion": resource.api_version, "kind": resource.kind}
        if resource.status:
            after = {key: value for key, value in after.items() if key != "status"}
            after |= {"status": before["status"]} if "status" in before else {}
        fixed = (
            "name",
            "namespace",
            "uid",
            "creationTimestamp",
            "generation",
            "deletionTimestamp",
            "resourceVersion",
        )
        metadata = {key: value for key, value in (after.get("metadata") or {}).items() if key not in fixed}
        metadata |= {key: before["metadata"][key] for key in fixed if key in before["metadata"]}
        return {**after, "metadata": metadata}

    def _changed(self, resource: Resource, before: Object, after: Object) -> Object:
        """Store what differs; a write that changes nothing makes no new version."""
        if _meaning(before) == _meaning(after):
            return copy.deepcopy(before)
        if _has_generation(after) and before.get("spec") != after.get("spec"):
            after["metadata"]["generation"] = before["metadata"].get("generation", 0) + 1
        metadata = after["metadata"]
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers") and resource.kind != "Pod":
            return self.remove(resource, metadata.get("namespace", ""), metadata["name"])
        return self._store("MODIFIED", resource, after, before)

    def _store(self, kind: str, resource: Resource, after: Object, before: Object) -> Object:
        self._version += 1
        metadata = after["metadata"]
        metadata["resourceVersion"] = str(self._version)
        owners = self._owners[metadata["uid"]]
        metadata["managedFields"] = applying.managed_fields(owners, resource.api_version, now())
        self._found[(resource.qualified, metadata.get("namespace", ""), metadata["name"])] = after
        self._tell(Change(self._version, kind, resource, copy.deepcopy(after), copy.deepcopy(before)))
        return copy.deepcopy(after)

    def _tell(self, change: Change) -> None:
        self.history.append(change)
        self.changed.notify_all()


def _has_generation(found: Object) -> bool:
    return "spec" in found and found["kind"] not in ("Pod", "Service", "PersistentVolumeClaim")


def _meaning(found: Object) -> Object:
    metadata = {
        key: value
        for key, value in found["metadata"].items()
        if key not in ("managedFields", "resourceVersion")
    }
    return {**found, "metadata": metadata}


def _check_version(resource: Resource, before: Object, sent: Object) -> None:
    """What names a version is meant for that one only, applied or not."""
    version = (sent.get("metadata") or {}).get("resourceVersion")
    if version and version != before["metadata"]["resourceVersion"]:
        name = before["metadata"]["name"]
        raise Problem(
            409,
            f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has '
            "been modified; please apply your changes to the latest version and try again",
        )
