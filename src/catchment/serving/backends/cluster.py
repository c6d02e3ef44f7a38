"""What the backends on clusters have in common: whose objects are whose, pods, logs, and the route."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from catchment.errors import AlreadyExists, NotFound, Unreachable, WrongState
from catchment.kubernetes.client import Cluster
from catchment.kubernetes.kinds import HTTP_ROUTE, POD, Kind, kind_of
from catchment.serving.manifests import names, routes
from catchment.serving.manifests.names import Manifest, cluster_namespace, serving_labels
from catchment.serving.workload import ServingKey
from catchment.settings import Settings

log = logging.getLogger(__name__)
Address = Callable[[str, str, int], str]
"""(namespace, service, port) -> `host:port` where this process reaches it."""
Found = dict[str, Any]


class OnCluster:
    """A serving's objects in a cluster.

    Args:
        settings: images, registry, gateways.
        cluster: where.
        address: where services are reached; by default by their names inside the cluster.
    """

    kinds: tuple[Kind, ...] = ()
    """Of the objects that a serving consists of, besides its route."""

    def __init__(self, settings: Settings, cluster: Cluster, *, address: Address | None = None) -> None:
        self.settings, self.cluster = settings, cluster
        self.address = address or self._inside

    def routed(self, serving: ServingKey) -> dict[str, int]:
        """How the traffic is split."""
        return routes.weights_of(
            self.mine(HTTP_ROUTE, serving, routes.route_name(serving)) or {}, self.key_of
        )

    def pods(self, serving: ServingKey) -> list[dict[str, Any]]:
        """Its pods, oldest first."""
        found = self.cluster.list(POD, self.namespace(serving), self.selector(serving))
        return sorted(found, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), _name(pod)))

    def log_lines(self, namespace: str, pod: str, container: str, most: int) -> list[tuple[str, str]]:
        """The last lines of a container's log, of pods of servings only.

        Raises:
            NotFound: no such pod, or no such container in it.
        """
        where = self.settings.kubernetes_namespace or namespace
        found = self.cluster.find(POD, where, pod)
        if found is None or found["metadata"].get("labels", {}).get(names.NAMESPACE) != namespace:
            raise NotFound(f"no serving of namespace {namespace!r} has a pod {pod!r}")
        spec = found["spec"]
        there = [each["name"] for each in [*spec["containers"], *(spec.get("initContainers") or [])]]
        if container not in ("", *there):
            raise NotFound(f"pod {pod!r} has no container {container!r}; it has {', '.join(there)}")
        return self.cluster.log(where, pod, container or there[0], tail=most)

    def remove_all(self, serving: ServingKey) -> bool:
        """Drain and end everything of a serving; whether all of it is gone."""
        self.remove_route(serving)
        left = False
        for kind in self.kinds:
            for found in self.cluster.list(kind, self.namespace(serving), self.selector(serving)):
                self._delete(kind, serving, found)
                left = True
        return not left and not self.pods(serving)

    def key_of(self, service: str) -> str:
        """The workload's key by the name of its service."""
        return service

    def namespace(self, serving: ServingKey) -> str:
        """Of the cluster."""
        return cluster_namespace(serving, self.settings)

    def selector(self, serving: ServingKey, workload: str = "") -> str:
        """Selects what is of a serving, or of one of its workloads."""
        mine = f"{names.SERVING_UID}={serving.uid}"
        return f"{mine},{names.WORKLOAD}={workload}" if workload else mine

    def put(self, manifest: Manifest, serving: ServingKey) -> None:
        """Apply an object of a serving.

        What somebody else has set to another value is set back: the store says what a serving is.

        Raises:
            AlreadyExists: an object of that name is there that is none of this serving's.
            Unreachable: what an earlier serving of the name has left is being removed.
        """
        kind, name = kind_of(manifest), str(manifest["metadata"]["name"])
        self.check_owner(kind, serving, self.cluster.find(kind, self.namespace(serving), name))
        try:
            self.cluster.apply(manifest, self.namespace(serving))
        except WrongState as conflict:
            log.warning("what others have set is set back: %s", conflict)
            self.cluster.apply(manifest, self.namespace(serving), force=True)

    def check_owner(self, kind: Kind, serving: ServingKey, found: Found | None) -> None:
        """Raises AlreadyExists or Unreachable when an object is not the serving's to change."""
        if found is None:
            return
        labels, wanted = found["metadata"].get("labels") or {}, serving_labels(serving)
        if any(labels.get(key) != wanted[key] for key in (names.MANAGED_BY, names.NAMESPACE, names.SERVING)):
            raise AlreadyExists(
                f"{kind.words} {_name(found)} in namespace {self.namespace(serving)} of the cluster "
                f"is none of serving {serving.name!r}'s; remove it, or name the serving otherwise"
            )
        if labels.get(names.SERVING_UID) != serving.uid:
            self._delete(kind, serving, found)
            raise Unreachable(f"{kind.words} {_name(found)} of an earlier serving is being removed")
        if "deletionTimestamp" in found["metadata"]:
            raise Unreachable(f"{kind.words} {_name(found)} is being removed still")

    def mine(self, kind: Kind, serving: ServingKey, name: str) -> Found | None:
        """An object of the serving; None where there is none, or one of somebody else's."""
        found = self.cluster.find(kind, self.namespace(serving), name)
        uid = (found or {"metadata": {}})["metadata"].get("labels", {}).get(names.SERVING_UID)
        return found if uid == serving.uid else None

    def drop(self, kind: Kind, serving: ServingKey, name: str) -> None:
        """Delete an object of the serving, where it is there."""
        if (found := self.mine(kind, serving, name)) is not None:
            self._delete(kind, serving, found)

    def _delete(self, kind: Kind, serving: ServingKey, found: Found) -> None:
        """This object, and none that somebody has made under its name since it was looked at."""
        self.cluster.delete(kind, self.namespace(serving), _name(found), uid=found["metadata"]["uid"])

    def put_route(
        self, serving: ServingKey, weights: Mapping[str, int], port: int, service: Callable[[str], str] = str
    ) -> None:
        """Write the HTTPRoute; {} removes it. Raises as `put`, and InvalidField."""
        if not weights:
            self.remove_route(serving)
            return
        self.put(routes.http_route(serving, weights, self.settings, port=port, service=service), serving)

    def remove_route(self, serving: ServingKey) -> None:
        """Remove the HTTPRoute."""
        self.drop(HTTP_ROUTE, serving, routes.route_name(serving))

    def pods_of(self, serving: ServingKey, key: str) -> list[Found]:
        """A workload's pods."""
        return self.cluster.list(POD, self.namespace(serving), self.selector(serving, key))

    def there(self, kind: Kind, serving: ServingKey, keys: Iterable[str]) -> None:
        """Raises NotFound when a workload has no object of this kind."""
        for key in keys:
            if self.mine(kind, serving, key) is None:
                raise NotFound(f"workload {key!r} of serving {serving.name!r} is not applied")

    def _inside(self, namespace: str, service: str, port: int) -> str:
        return f"{service}.{namespace}.{self.settings.serving_cluster_domain}:{port}"


def _name(found: Mapping[str, Any]) -> str:
    return str(found["metadata"]["name"])
