"""The objects of a real API server, as the double's node and controllers work with them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import urllib3

from tests.kubernetes_double.deleting import FOREGROUND, ORPHAN, only
from tests.kubernetes_double.objects import Object, Objects
from tests.kubernetes_double.problems import Problem, gone_is_fine
from tests.kubernetes_double.resources import RESOURCES, Resource
from tests.real_kubernetes.older import API_VERSIONS
from tests.real_kubernetes.server import Running

TRIES = 10
TIMEOUT_S = 30.0


class RemoteObjects(Objects):
    """Reads and writes over HTTP, as somebody who may do everything."""

    def __init__(self, server: Running) -> None:
        super().__init__(tuple(map(_older, RESOURCES)))
        self._server = server
        self._pool = urllib3.PoolManager(maxsize=8, ca_certs=str(server.authority), retries=False)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def ask(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Object:
        """What the server answers; Problem where it refuses."""
        headers = {"Authorization": f"Bearer {self._server.token}", "Content-Type": content}
        answer = self._pool.request(
            method,
            self._server.url + path,
            body=None if body is None else json.dumps(body),
            headers=headers,
            timeout=TIMEOUT_S,
        )
        # What nobody has registered is no Status, but a page.
        plain = "json" not in answer.headers.get("Content-Type", "")
        told: Object = {"message": answer.data.decode()} if plain else json.loads(answer.data)
        if answer.status >= 300:
            raise Problem(answer.status, told.get("message", ""), told.get("reason", ""))
        return told

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        return self.ask("GET", path(resource, namespace, name))

    def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        try:
            return self.get(resource, namespace, name)
        except Problem as problem:
            if problem.code != 404:
                raise
            return None

    def list(self, resource: Resource, namespace: str = "") -> list[Object]:
        found = self.ask("GET", path(resource, namespace))["items"]
        named = {"apiVersion": resource.api_version, "kind": resource.kind}
        return [{**named, **each} for each in found]

    def create(
        self, resource: Resource, namespace: str, new: Object, manager: str = "", *, strict: bool = False
    ) -> Object:
        made = {**new, "apiVersion": resource.api_version, "kind": resource.kind}
        query = f"?fieldManager={manager}" if manager else ""
        return self.ask("POST", path(resource, namespace) + query, made)

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
        """Read, edit, write; again where somebody else was faster."""
        where = path(resource, namespace, name) + ("/status" if status else "")
        query = f"?fieldManager={manager}" if manager else ""
        for left in reversed(range(TRIES)):
            before = self.get(resource, namespace, name)
            after = edit(copy.deepcopy(before))
            if _told(after) == _told(before):
                return before
            after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
            try:
                return self.ask("PUT", where + query, after)
            except Problem as problem:
                if problem.code != 409 or not left:
                    raise
        raise AssertionError("the last try returns or raises")

    def bind(self, namespace: str, name: str, node: str) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        self.ask("POST", path(self.resource("pods"), namespace, name) + "/binding", binding)

    def remove(self, resource: Resource, namespace: str, name: str) -> Object:
        return self.ask("DELETE", path(resource, namespace, name), {"gracePeriodSeconds": 0})


def path(resource: Resource, namespace: str, name: str = "") -> str:
    """Of an object, or of all of a kind; "" for all namespaces."""
    root = f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.version}"
    place = f"/namespaces/{namespace}" if namespace and resource.namespaced else ""
    return f"{root}{place}/{resource.plural}" + (f"/{name}" if name else "")


def delete(
    objects: Objects, resource: Resource, namespace: str, name: str, options: dict[str, Any]
) -> Object:
    """As `deleting.delete`; what that means is the server's business here."""
    assert isinstance(objects, RemoteObjects)
    return objects.ask("DELETE", path(resource, namespace, name), options)


def collect(objects: Objects) -> None:
    """One pass of a garbage collector over the kinds that own and are owned here."""
    found = [
        (resource, each)
        for resource in map(objects.resource, ("pods", "secrets", "deployments", "jobs"))
        for each in objects.list(resource)
    ]
    owned = [each for each in found if each[1]["metadata"].get("ownerReferences")]
    known = {each["metadata"]["uid"]: each for each in _owners(objects, found, owned)}
    for resource, each in owned:
        metadata = each["metadata"]
        owners = [known.get(owner["uid"]) for owner in metadata["ownerReferences"]]
        if all(_leaving(owner) for owner in owners) and "deletionTimestamp" not in metadata:
            # As it was seen: meanwhile it may have been given to somebody who is there.
            options = only(each, unchanged=True)
            with gone_is_fine(409):
                delete(objects, resource, metadata["namespace"], metadata["name"], options)
    for resource, each in found:
        metadata, uid = each["metadata"], each["metadata"]["uid"]
        mine = [other for other in owned if uid in _owner_uids(other[1])]
        held = metadata.get("finalizers") or []
        if FOREGROUND in held and not mine:
            _release(objects, resource, each, FOREGROUND)
        if ORPHAN in held:
            for kind, other in mine:
                _disown(objects, kind, other, uid)
            _release(objects, resource, each, ORPHAN)


def _owners(
    objects: Objects, found: list[tuple[Resource, Object]], owned: list[tuple[Resource, Object]]
) -> Iterator[Object]:
    """What is there of all kinds that own something."""
    yield from (each for _, each in found)
    listed = {resource.kind for resource, _ in found}
    for kind in {
        owner["kind"] for _, each in owned for owner in each["metadata"]["ownerReferences"]
    } - listed:
        yield from objects.list(objects.resource(kind))


def _leaving(owner: Object | None) -> bool:
    return owner is None or FOREGROUND in (owner["metadata"].get("finalizers") or [])


def _owner_uids(found: Object) -> set[str]:
    return {owner["uid"] for owner in found["metadata"]["ownerReferences"]}


def _release(objects: Objects, resource: Resource, found: Object, finalizer: str) -> None:
    def edit(live: Object) -> Object:
        kept = [each for each in live["metadata"].get("finalizers") or [] if each != finalizer]
        live["metadata"]["finalizers"] = kept
        return live

    metadata = found["metadata"]
    with gone_is_fine(409):
        objects.change(resource, metadata["namespace"], metadata["name"], edit)


def _disown(objects: Objects, resource: Resource, found: Object, uid: str) -> None:
    def edit(live: Object) -> Object:
        kept = [each for each in live["metadata"].get("ownerReferences") or [] if each["uid"] != uid]
        live["metadata"]["ownerReferences"] = kept
        return live

    metadata = found["metadata"]
    with gone_is_fine(409):
        objects.change(resource, metadata["namespace"], metadata["name"], edit)


def _told(found: Any) -> Any:
    """An object without what says nothing: the server writes out nulls and empty maps that nobody sent."""
    if isinstance(found, dict):
        kept = {key: _told(value) for key, value in found.items()}
        return {key: value for key, value in kept.items() if value not in (None, {}, [], "", 0)}
    return [_told(each) for each in found] if isinstance(found, list) else found


def _older(resource: Resource) -> Resource:
    version = API_VERSIONS.get(resource.api_version, resource.api_version)
    return replace(resource, version=version.rpartition("/")[2])
