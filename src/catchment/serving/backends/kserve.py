"""Servings on KServe in its standard mode: an InferenceService for each workload, and an HTTPRoute."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from catchment.errors import SetupError
from catchment.kubernetes.client import Cluster
from catchment.kubernetes.kinds import INFERENCE_SERVICE
from catchment.serving.backends.cluster import Address, Found, OnCluster
from catchment.serving.backends.observing import condition, is_ready, of_custom, older_than
from catchment.serving.manifests import kserve
from catchment.serving.manifests.names import check_weights
from catchment.serving.workload import Endpoint, Observed, ServingKey, Workload
from catchment.settings import Settings


class KServeBackend(OnCluster):
    """Every workload is an InferenceService named by its key.

    Args:
        settings: images, registry, gateways.
        cluster: where KServe is installed.
        address: where services are reached.
        clock: seconds since 1970.

    Raises:
        SetupError: the settings ask for serverless mode, which is for rendered manifests only: there one
            InferenceService is the whole serving, and an earlier revision cannot be described again.
    """

    name = "kserve"
    kinds = (INFERENCE_SERVICE,)

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        *,
        address: Address | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if settings.kserve_mode != "standard":
            raise SetupError(
                "CATCHMENT_KSERVE_MODE=serverless is for rendered manifests; backend kserve needs standard"
            )
        super().__init__(settings, cluster, address=address)
        self._clock = clock

    def check(self, workload: Workload) -> None:
        """Whether KServe can serve it. Raises InvalidField."""
        kserve.inference_service(workload, self.settings)

    def apply(self, workload: Workload) -> None:
        """Have it run. Raises InvalidField, AlreadyExists."""
        self.put(kserve.inference_service(workload, self.settings), workload.serving)

    def observe(self, workload: Workload) -> Observed:
        """How it is, by KServe's conditions and by its pods."""
        serving, key = workload.serving, workload.key
        found, pods = self.mine(INFERENCE_SERVICE, serving, key), self.pods_of(serving, key)
        if found is None or "deletionTimestamp" in found["metadata"]:
            if found is None and not pods:
                return Observed("absent")
            return Observed("starting", 0, workload.replicas, "it is being removed")
        ready, status = condition(found, "Ready"), found.get("status") or {}
        seen = int(status.get("observedGeneration", 0)) >= int(found["metadata"].get("generation", 0))
        since = ready.get("lastTransitionTime") or found["metadata"].get("creationTimestamp")
        return of_custom(
            pods,
            int(found["spec"]["predictor"]["minReplicas"]),
            settled=seen and ready.get("status") == "True",
            failure=_failure(found),
            late=older_than(since, self.settings.serving_start_timeout_s, self._clock()),
        )

    def endpoints(self, workload: Workload) -> list[Endpoint]:
        """The service that KServe makes for its predictor, while a replica is ready."""
        serving, key = workload.serving, workload.key
        found = self.mine(INFERENCE_SERVICE, serving, key)
        if found is None or not any(map(is_ready, self.pods_of(serving, key))):
            return []
        where = self.address(self.namespace(serving), kserve.service_name(key), kserve.HTTP_PORT)
        return [Endpoint(f"http://{where}", "", serving.name)]

    def route(self, serving: ServingKey, weights: Mapping[str, int]) -> None:
        """Write the HTTPRoute; {} removes it. Raises InvalidField, NotFound."""
        check_weights(weights)
        self.there(INFERENCE_SERVICE, serving, weights)
        self.put_route(serving, weights, kserve.HTTP_PORT, kserve.service_name)

    def key_of(self, service: str) -> str:
        """The workload's key by the name of its service."""
        return kserve.key_of(service)

    def remove(self, serving: ServingKey, keys: Iterable[str]) -> None:
        """End these workloads; KServe ends their pods."""
        for key in keys:
            self.drop(INFERENCE_SERVICE, serving, key)


def _failure(found: Found) -> str:
    """What KServe says of a model that no pod could load; empty while it does not."""
    model = (found.get("status") or {}).get("modelStatus") or {}
    if model.get("transitionStatus") not in ("BlockedByFailedLoad", "InvalidSpec"):
        return ""
    told = model.get("lastFailureInfo") or {}
    return f"{told.get('reason', model['transitionStatus'])}: {told.get('message', 'no reason given')}"
