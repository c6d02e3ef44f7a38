"""Servings on Seldon Core 1: a serving is a SeldonDeployment, its workloads are predictors."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from catchment.errors import NotFound, Unreachable, WrongState
from catchment.kubernetes.client import Cluster
from catchment.kubernetes.kinds import SELDON_DEPLOYMENT
from catchment.serving.backends.cluster import Address, Found, OnCluster
from catchment.serving.backends.observing import is_ready, of_custom, older_than
from catchment.serving.manifests import seldon
from catchment.serving.manifests.names import check_weights
from catchment.serving.workload import Endpoint, Observed, ServingKey, Workload
from catchment.settings import Settings

TRIES = 5
"""Of a change that somebody else's came between."""
HTTP_PORT, GRPC_PORT = 8000, 5001
"""Of the service that Seldon makes for a predictor."""


class SeldonBackend(OnCluster):
    """Changes of a SeldonDeployment are made to what is there, and only if it still is so.

    Args:
        settings: images, registry.
        cluster: where Seldon is installed.
        address: where services are reached.
        clock: seconds since 1970.
    """

    name = "seldon"
    kinds = (SELDON_DEPLOYMENT,)

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        *,
        address: Address | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(settings, cluster, address=address)
        self._clock = clock

    def check(self, workload: Workload) -> None:
        """Whether Seldon can serve it. Raises InvalidField."""
        seldon.seldon_deployment([workload], {}, self.settings)

    def apply(self, workload: Workload) -> None:
        """Have it be a predictor, without traffic unless it is the only one.

        Raises:
            InvalidField, AlreadyExists: it cannot be one, or the name is taken.
        """
        made = seldon.predictor(workload, self.settings)

        def change(predictors: list[Found], weights: dict[str, int]) -> tuple[list[Found], dict[str, int]]:
            keys = list(map(seldon.workload_of, predictors))
            if workload.key not in keys:
                return [*predictors, made], weights
            # In its place, for another order would be another deployment.
            predictors[keys.index(workload.key)] = made
            return predictors, weights

        self._change(workload.serving, change)

    def observe(self, workload: Workload) -> Observed:
        """How it is, by Seldon's state and by its pods."""
        serving, key = workload.serving, workload.key
        found, pods = self.mine(SELDON_DEPLOYMENT, serving, serving.name), self.pods_of(serving, key)
        mine = [each for each in _predictors(found) if seldon.workload_of(each) == key]
        if not mine or (found is not None and "deletionTimestamp" in found["metadata"]):
            if not mine and not pods:
                return Observed("absent")
            return Observed("starting", 0, workload.replicas, "it is being removed")
        assert found is not None  # noqa: S101 - it has predictors
        status = found.get("status") or {}
        failed = status.get("state") == "Failed"
        limit_s, now = self.settings.serving_start_timeout_s, self._clock()
        ages = [older_than(pod["metadata"].get("creationTimestamp"), limit_s, now) for pod in pods]
        return of_custom(
            pods,
            int(mine[0].get("replicas", 1)),
            settled=status.get("state") != "Failed",
            failure=str(status.get("description") or "Seldon gives no reason") if failed and not pods else "",
            # Seldon's state is that of all predictors, so that a new one is judged by its pods.
            late=bool(ages) and all(ages) and not any(map(is_ready, pods)),
        )

    def endpoints(self, workload: Workload) -> list[Endpoint]:
        """The service that Seldon makes for its predictor, while a replica is ready."""
        serving, where = workload.serving, self.namespace(workload.serving)
        found = self.mine(SELDON_DEPLOYMENT, serving, serving.name)
        if workload.key not in map(seldon.workload_of, _predictors(found)):
            return []
        if not any(map(is_ready, self.pods_of(serving, workload.key))):
            return []
        service = seldon.service_name(workload)
        http, grpc = (self.address(where, service, port) for port in (HTTP_PORT, GRPC_PORT))
        return [Endpoint(f"http://{http}", grpc, serving.name)]

    def route(self, serving: ServingKey, weights: Mapping[str, int]) -> None:
        """Split the traffic between predictors; {} leaves Seldon's, since it knows no deployment without.

        Raises:
            InvalidField: the weights are not 100 together.
            NotFound: a workload among them is not applied.
        """
        check_weights(weights)
        if not weights and self.mine(SELDON_DEPLOYMENT, serving, serving.name) is None:
            return

        def change(predictors: list[Found], _: dict[str, int]) -> tuple[list[Found], dict[str, int]]:
            there = set(map(seldon.workload_of, predictors))
            if missing := sorted(set(weights) - there):
                raise NotFound(f"workload {missing[0]!r} of serving {serving.name!r} is not applied")
            return predictors, dict(weights)

        self._change(serving, change)

    def routed(self, serving: ServingKey) -> dict[str, int]:
        """How the traffic was split last."""
        return _weights(self.mine(SELDON_DEPLOYMENT, serving, serving.name))

    def remove(self, serving: ServingKey, keys: Iterable[str]) -> None:
        """Take these predictors out; with the last one goes the deployment."""
        gone = set(keys)
        if self.mine(SELDON_DEPLOYMENT, serving, serving.name) is None:
            return

        def change(predictors: list[Found], weights: dict[str, int]) -> tuple[list[Found], dict[str, int]]:
            left = {key: share for key, share in weights.items() if key not in gone}
            kept = [each for each in predictors if seldon.workload_of(each) not in gone]
            return kept, left if sum(left.values()) == 100 else {}

        self._change(serving, change)

    def remove_route(self, serving: ServingKey) -> None:
        """There is none: the traffic is Seldon's."""

    def _change(
        self,
        serving: ServingKey,
        change: Callable[[list[Found], dict[str, int]], tuple[list[Found], dict[str, int]]],
    ) -> None:
        """Change predictors and weights of what is there now.

        Raises:
            Unreachable: others change it all the time.
        """
        where = self.namespace(serving)
        for _ in range(TRIES):
            found = self.cluster.find(SELDON_DEPLOYMENT, where, serving.name)
            self.check_owner(SELDON_DEPLOYMENT, serving, found)
            predictors, weights = change(_predictors(found), _weights(found))
            try:
                if predictors:
                    self._write(serving, predictors, weights, found)
                elif found is not None:
                    told = found["metadata"]
                    self.cluster.delete(
                        SELDON_DEPLOYMENT,
                        where,
                        serving.name,
                        uid=told["uid"],
                        version=told["resourceVersion"],
                    )
            except WrongState:
                continue
            return
        raise Unreachable(f"SeldonDeployment {serving.name} is changed by others all the time")

    def _write(
        self, serving: ServingKey, predictors: list[Found], weights: dict[str, int], found: Found | None
    ) -> None:
        made = seldon.deployment_of(serving, seldon.split(predictors, weights), self.settings)
        made["metadata"]["annotations"] = {seldon.WEIGHTS: json.dumps(weights, sort_keys=True)}
        where = self.namespace(serving)
        if found is None:
            self.cluster.apply(made, where)
            return
        # The list of predictors is one value to Kubernetes, so that a change in between would be lost.
        made["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        self.cluster.apply(made, where, force=True)


def _predictors(found: Found | None) -> list[dict[str, Any]]:
    return list((found or {}).get("spec", {}).get("predictors") or [])


def _weights(found: Found | None) -> dict[str, int]:
    annotations = (found or {"metadata": {}})["metadata"].get("annotations") or {}
    weights: dict[str, int] = json.loads(annotations.get(seldon.WEIGHTS) or "{}")
    return weights
