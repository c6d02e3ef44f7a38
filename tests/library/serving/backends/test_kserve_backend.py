"""What KServe says of a serving, and where its traffic goes."""

from __future__ import annotations

import time

import pytest

from catchment.errors import InvalidField, NotFound, SetupError
from catchment.kubernetes.client import Cluster
from catchment.serving.backends.kserve import KServeBackend
from catchment.serving.workload import Endpoint
from tests.conftest import wait_until
from tests.kubernetes_double.double import KubernetesDouble
from tests.serving_operators import OperatorHarness
from tests.serving_workloads import SERVING, model, settings, workload


@pytest.fixture
def backend(api: KubernetesDouble) -> KServeBackend:
    found = OperatorHarness(api, "kserve").backend
    assert isinstance(found, KServeBackend)
    return found


def test_traffic_goes_to_the_services_that_kserve_makes(
    api: KubernetesDouble, backend: KServeBackend
) -> None:
    stable, canary = workload(1), workload(2)
    for each in (stable, canary):
        backend.apply(each)
        wait_until(lambda each=each: backend.observe(each).state == "ready", timeout_s=20, what="pods")
    assert backend.endpoints(canary) == [
        Endpoint("http://digits-main-r2-predictor.default.svc.cluster.local:80", "", "digits")
    ]
    backend.route(SERVING, {stable.key: 75, canary.key: 25})
    route = api.get("httproutes", "digits")
    assert route is not None
    assert route["spec"]["rules"][0]["backendRefs"] == [
        {"name": "digits-main-r1-predictor", "port": 80, "weight": 75},
        {"name": "digits-main-r2-predictor", "port": 80, "weight": 25},
    ]
    assert backend.routed(SERVING) == {stable.key: 75, canary.key: 25}
    with pytest.raises(NotFound, match="not applied"):
        backend.route(SERVING, {workload(3).key: 100})


def test_a_model_that_kserve_could_not_load_has_failed(api: KubernetesDouble, backend: KServeBackend) -> None:
    wanted = workload()
    failure = {"reason": "ModelLoadFailed", "message": "no such opset"}
    told = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": failure}
    api.on_change("inferenceservices", lambda _: {"modelStatus": told})
    backend.apply(wanted)
    wait_until(lambda: backend.observe(wanted).state == "failed", timeout_s=20, what="the failure")
    assert backend.observe(wanted).message == "ModelLoadFailed: no such opset"


def test_what_kserve_has_not_seen_yet_is_not_ready(api: KubernetesDouble, backend: KServeBackend) -> None:
    wanted = workload()
    backend.apply(wanted)
    wait_until(lambda: backend.observe(wanted).state == "ready", timeout_s=20, what="pods")
    stale = {"observedGeneration": 0, "conditions": [{"type": "Ready", "status": "True"}]}
    api.set_status("inferenceservices", "default", wanted.key, stale)
    assert backend.observe(wanted).state == "starting"


def test_what_is_not_ready_in_time_has_failed(api: KubernetesDouble, cluster: Cluster) -> None:
    later = KServeBackend(settings(), cluster, clock=lambda: time.time() + 601)
    now = KServeBackend(settings(), cluster)
    wanted = workload()
    now.apply(wanted)
    assert now.observe(wanted).state == "starting"
    seen = later.observe(wanted)
    assert (seen.state, seen.message) == ("failed", "not ready in time: 0 of 1 replicas are ready")


def test_serverless_mode_is_for_manifests_only(cluster: Cluster) -> None:
    with pytest.raises(SetupError, match="CATCHMENT_KSERVE_MODE"):
        KServeBackend(settings(kserve_mode="serverless"), cluster)


def test_what_kserve_cannot_serve_reaches_no_cluster(api: KubernetesDouble, backend: KServeBackend) -> None:
    for call in (backend.check, backend.apply):
        with pytest.raises(InvalidField, match="backend kubernetes"):
            call(workload(model=model("PMML")))
    assert api.asked == []


def test_a_cluster_without_kserve_is_told() -> None:
    with KubernetesDouble(without=("serving.kserve.io",)) as api:
        configuration = api.client_configuration()
        configuration.retries = False
        with Cluster(settings(), configuration) as opened:
            backend = KServeBackend(settings(), opened)
            with pytest.raises(NotFound, match=r"serving\.kserve\.io"):
                backend.apply(workload())
            assert backend.observe(workload()).state == "absent"
