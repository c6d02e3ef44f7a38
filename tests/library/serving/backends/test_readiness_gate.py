"""With the readiness gate a pod takes traffic once it was verified, and not before."""

from __future__ import annotations

import pytest

from catchment.errors import InferenceFailed, SetupError
from catchment.kubernetes.client import Cluster
from catchment.kubernetes.kinds import POD
from catchment.serving.backends.kubernetes import KubernetesBackend
from catchment.serving.workload import Endpoint, Workload
from tests.conftest import wait_until
from tests.kubernetes_double.double import KubernetesDouble
from tests.serving_workloads import SERVING, settings, workload

GATED = settings(serving_readiness_gate=True)


def test_pods_wait_until_they_are_verified(api: KubernetesDouble, cluster: Cluster) -> None:
    asked: list[Endpoint] = []
    good: list[bool] = []

    def verify(_: Workload, endpoint: Endpoint) -> None:
        asked.append(endpoint)
        if not good:
            raise InferenceFailed("outputs are NaN")

    backend = KubernetesBackend(GATED, cluster, verify=verify)
    wanted = workload(replicas=2)
    backend.apply(wanted)
    wait_until(
        lambda: "not verified: outputs are NaN" in backend.observe(wanted).message,
        timeout_s=20,
        what="the verifier's words",
    )
    assert backend.endpoints(wanted) == []
    good.append(True)
    wait_until(lambda: backend.observe(wanted).state == "ready", timeout_s=20, what="verified pods")
    assert backend.endpoints(wanted)
    pods = cluster.list(POD, "default")
    ports = {f"http://{pod['status']['podIP']}:8000" for pod in pods}
    assert {each.http for each in asked} == ports
    before = len(asked)
    backend.observe(wanted)
    assert len(asked) == before
    for pod in pods:
        conditions = {each["type"]: each["status"] for each in pod["status"]["conditions"]}
        assert conditions["catchment.io/verified"] == conditions["ContainersReady"] == "True"


def test_a_pod_that_comes_later_is_verified_too(api: KubernetesDouble, cluster: Cluster) -> None:
    backend = KubernetesBackend(GATED, cluster, verify=lambda *_: None)
    wanted = workload()
    backend.apply(wanted)
    wait_until(lambda: backend.observe(wanted).state == "ready", timeout_s=20, what="a pod")
    (pod,) = backend.pods(SERVING)
    api.delete("pods", pod["metadata"]["name"])

    def another() -> bool:
        names = [each["metadata"]["name"] for each in backend.pods(SERVING)]
        return pod["metadata"]["name"] not in names and backend.observe(wanted).state == "ready"

    wait_until(another, timeout_s=20, what="another pod, verified")


def test_without_a_verifier_there_is_no_gate(cluster: Cluster) -> None:
    with pytest.raises(SetupError, match="CATCHMENT_SERVING_READINESS_GATE"):
        KubernetesBackend(GATED, cluster)
