"""Servings on plain Kubernetes: Deployments behind Services, and an HTTPRoute of the Gateway API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from catchment.kubernetes.kinds import DEPLOYMENT, DISRUPTION_BUDGET, SERVICE
from catchment.serving.backends.cluster import OnCluster
from catchment.serving.backends.observing import of_deployment
from catchment.serving.manifests import plain
from catchment.serving.manifests.names import check_weights
from catchment.serving.workload import Endpoint, Observed, ServingKey, Workload


class KubernetesBackend(OnCluster):
    """Every workload is a Deployment and a Service of its own, named by its key."""

    name = "kubernetes"
    kinds = (DEPLOYMENT, SERVICE, DISRUPTION_BUDGET)

    def check(self, workload: Workload) -> None:
        """Whether it can run on Kubernetes. Raises InvalidField."""
        plain.objects(workload, self.settings)

    def apply(self, workload: Workload) -> None:
        """Have it run, by server-side apply.

        Raises:
            InvalidField: it cannot run, or the cluster finds it wrong.
            AlreadyExists: something of its name is there that is not Catchment's.
        """
        for manifest in plain.objects(workload, self.settings):
            self.put(manifest, workload.serving)
        if workload.replicas <= 1:
            self.drop(DISRUPTION_BUDGET, workload.serving, workload.key)

    def observe(self, workload: Workload) -> Observed:
        """How it is; absent when nothing of it is left, not even a pod that ends."""
        serving, key = workload.serving, workload.key
        found, pods = self.mine(DEPLOYMENT, serving, key), self.pods_of(serving, key)
        if found is not None and "deletionTimestamp" not in found["metadata"]:
            return of_deployment(found, pods)
        if found is None and not pods:
            return Observed("absent")
        return Observed("starting", 0, workload.replicas, "it is being removed")

    def endpoints(self, workload: Workload) -> list[Endpoint]:
        """Its Service, while a replica is ready."""
        serving, key = workload.serving, workload.key
        found, service = self.mine(DEPLOYMENT, serving, key), self.mine(SERVICE, serving, key)
        if not found or not service or not (found.get("status") or {}).get("readyReplicas"):
            return []
        ports = {each["name"] for each in service["spec"]["ports"]}
        where = self.namespace(serving)
        http = f"http://{self.address(where, key, plain.HTTP_PORT)}"
        grpc = self.address(where, key, plain.GRPC_PORT) if "grpc" in ports else ""
        return [Endpoint(http, grpc, serving.name)]

    def route(self, serving: ServingKey, weights: Mapping[str, int]) -> None:
        """Write the HTTPRoute; {} removes it.

        Raises:
            InvalidField: the weights are not 100 together.
            NotFound: a workload among them is not applied, or the cluster has no Gateway API.
        """
        check_weights(weights)
        self.there(SERVICE, serving, weights)
        self.put_route(serving, weights, plain.HTTP_PORT)

    def remove(self, serving: ServingKey, keys: Iterable[str]) -> None:
        """End these workloads: their pods drain while they end, the Service goes last."""
        for key in keys:
            for kind in (DEPLOYMENT, DISRUPTION_BUDGET, SERVICE):
                self.drop(kind, serving, key)
