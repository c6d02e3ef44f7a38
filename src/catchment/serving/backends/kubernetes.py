"""Servings on plain Kubernetes: Deployments behind Services, and an HTTPRoute of the Gateway API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from catchment.errors import CatchmentError, SetupError
from catchment.kubernetes.client import Cluster
from catchment.kubernetes.kinds import DEPLOYMENT, DISRUPTION_BUDGET, POD, SERVICE
from catchment.serving.backends.cluster import Address, Found, OnCluster
from catchment.serving.backends.observing import condition, of_deployment
from catchment.serving.manifests import plain
from catchment.serving.manifests.names import check_weights
from catchment.serving.workload import Endpoint, Observed, ServingKey, Workload
from catchment.settings import Settings

Verify = Callable[[Workload, Endpoint], object]
"""Asks one model server whether it is the model that was meant; raises CatchmentError when it is not."""


class KubernetesBackend(OnCluster):
    """Every workload is a Deployment and a Service of its own, named by its key.

    Args:
        settings: images, registry, gateways.
        cluster: where.
        address: where services are reached.
        verify: with the readiness gate, what a pod must pass before it takes traffic; asked by `observe`.
        pod_address: (pod, port) -> `host:port` where this process reaches it; by default its own address.

    Raises:
        SetupError: the settings ask for the readiness gate, and there is nothing to verify with.
    """

    name = "kubernetes"
    kinds = (DEPLOYMENT, SERVICE, DISRUPTION_BUDGET)

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        *,
        address: Address | None = None,
        verify: Verify | None = None,
        pod_address: Callable[[Found, int], str] | None = None,
    ) -> None:
        if settings.serving_readiness_gate and verify is None:
            raise SetupError("CATCHMENT_SERVING_READINESS_GATE needs a program that verifies pods; unset it")
        super().__init__(settings, cluster, address=address)
        self._verify, self._pod_address = verify, pod_address or _own_address

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
            told = self._verify_pods(workload, pods) if self.settings.serving_readiness_gate else ""
            seen = of_deployment(found, pods)
            return replace(seen, message=told) if told and seen.state == "starting" else seen
        if found is None and not pods:
            return Observed("absent")
        return Observed("starting", 0, workload.replicas, "it is being removed")

    def _verify_pods(self, workload: Workload, pods: list[Found]) -> str:
        """Set the gate's condition of pods that pass; what is wrong with one that does not."""
        problem = ""
        for pod in pods:
            whole, passed = (
                condition(pod, kind).get("status") for kind in ("ContainersReady", plain.VERIFIED)
            )
            if whole != "True" or passed == "True" or self._verify is None:
                continue
            try:
                self._verify(workload, self._pod_endpoint(workload, pod))
            except CatchmentError as error:
                problem = f"pod {pod['metadata']['name']} is not verified: {error}"
                continue
            told = {"conditions": [{"type": plain.VERIFIED, "status": "True", "reason": "Verified"}]}
            self.cluster.patch_status(POD, self.namespace(workload.serving), pod["metadata"]["name"], told)
        return problem

    def _pod_endpoint(self, workload: Workload, pod: Found) -> Endpoint:
        """Where one pod answers; a container of the user's own may have one port, without a name."""
        listed = pod["spec"]["containers"][0].get("ports") or [{"containerPort": plain.HTTP_PORT}]
        ports = {"http": listed[0]["containerPort"]}
        ports |= {each.get("name"): each["containerPort"] for each in listed}
        http = self._pod_address(pod, ports["http"])
        grpc = self._pod_address(pod, ports["grpc"]) if "grpc" in ports else ""
        return Endpoint(f"http://{http}", grpc, workload.serving.name)

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


def _own_address(pod: Found, port: int) -> str:
    address = str(pod["status"]["podIP"])
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
