"""What becomes of a SeldonDeployment while a serving's revisions come and go."""

from __future__ import annotations

from typing import Any

import pytest

from catchment.errors import AlreadyExists, InvalidField, NotFound, Unreachable
from catchment.kubernetes.client import Cluster
from catchment.serving.backends.seldon import SeldonBackend
from catchment.serving.workload import Endpoint
from tests.conftest import wait_until
from tests.kubernetes_double import outcomes
from tests.kubernetes_double.double import KubernetesDouble
from tests.serving_operators import FINE, OperatorHarness
from tests.serving_workloads import SERVING, model, settings, workload

STABLE, CANARY = workload(1), workload(2)


@pytest.fixture
def backend(api: KubernetesDouble) -> SeldonBackend:
    found = OperatorHarness(api, "seldon").backend
    assert isinstance(found, SeldonBackend)
    return found


def traffic(api: KubernetesDouble) -> dict[str, int]:
    found = api.get("seldondeployments", "digits")
    assert found is not None
    return {each["name"]: each["traffic"] for each in found["spec"]["predictors"]}


def test_revisions_are_predictors_of_one_deployment(api: KubernetesDouble, backend: SeldonBackend) -> None:
    backend.apply(STABLE)
    assert traffic(api) == {"main-r1": 100}
    backend.apply(CANARY)
    assert traffic(api) == {"main-r1": 100, "main-r2": 0}
    backend.route(SERVING, {STABLE.key: 95, CANARY.key: 5})
    assert traffic(api) == {"main-r1": 95, "main-r2": 5}
    backend.apply(STABLE.scaled(2))
    assert traffic(api) == {"main-r1": 95, "main-r2": 5}
    backend.route(SERVING, {CANARY.key: 100})
    backend.remove(SERVING, [STABLE.key])
    assert traffic(api) == {"main-r2": 100}
    assert backend.routed(SERVING) == {CANARY.key: 100}
    backend.remove(SERVING, [CANARY.key])
    assert api.get("seldondeployments", "digits") is None


def test_applying_again_changes_nothing(api: KubernetesDouble, backend: SeldonBackend) -> None:
    for each in (STABLE, CANARY):
        backend.apply(each)
    backend.route(SERVING, {STABLE.key: 50, CANARY.key: 50})
    before = api.get("seldondeployments", "digits")
    assert before is not None
    for each in (STABLE, CANARY, STABLE):
        backend.apply(each)
    backend.route(SERVING, {STABLE.key: 50, CANARY.key: 50})
    after = api.get("seldondeployments", "digits")
    assert after is not None
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


def test_a_change_that_came_between_is_not_lost(api: KubernetesDouble, backend: SeldonBackend) -> None:
    """Another process adds a predictor after this one has read the deployment."""
    backend.apply(STABLE)
    write = backend._write
    came: list[bool] = []

    def late(*given: Any) -> None:
        if not came:
            came.append(True)
            other = SeldonBackend(backend.settings, backend.cluster)
            other.apply(CANARY)
        write(*given)

    backend._write = late  # type: ignore[method-assign]
    backend.apply(workload(3))
    assert set(traffic(api)) == {"main-r1", "main-r2", "main-r3"}


def test_a_predictor_that_came_before_the_deletion_of_the_last_one_stays(
    api: KubernetesDouble, backend: SeldonBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.apply(STABLE)
    delete, came = backend.cluster.delete, []

    def late(*given: Any, **more: Any) -> bool:
        came.append(given)
        SeldonBackend(backend.settings, backend.cluster).apply(CANARY)
        return delete(*given, **more)

    monkeypatch.setattr(backend.cluster, "delete", late)
    backend.remove(STABLE.serving, [STABLE.key])
    assert came
    assert set(traffic(api)) == {"main-r2"}


def test_changes_that_always_come_between_end_the_tries(
    api: KubernetesDouble, backend: SeldonBackend
) -> None:
    backend.apply(STABLE)
    api.fail("patch", "seldondeployments", code=409, times=50)
    with pytest.raises(Unreachable, match="changed by others"):
        backend.apply(CANARY)


def test_traffic_goes_only_to_predictors(api: KubernetesDouble, backend: SeldonBackend) -> None:
    backend.apply(STABLE)
    with pytest.raises(NotFound, match="digits-main-r2"):
        backend.route(SERVING, {CANARY.key: 100})
    with pytest.raises(InvalidField):
        backend.route(SERVING, {STABLE.key: 5})


def test_endpoints_are_the_services_that_seldon_makes(backend: SeldonBackend) -> None:
    backend.apply(STABLE)
    wait_until(lambda: backend.observe(STABLE).state == "ready", timeout_s=20, what="pods")
    host = "digits-main-r1.default.svc.cluster.local"
    assert backend.endpoints(STABLE) == [Endpoint(f"http://{host}:8000", f"{host}:5001", "digits")]
    assert backend.endpoints(CANARY) == []


def test_seldons_failure_is_told_while_there_are_no_pods(
    api: KubernetesDouble, backend: SeldonBackend
) -> None:
    api.on_change("seldondeployments", lambda _: {"state": "Failed", "description": "no such class"})
    backend.apply(STABLE)
    wait_until(lambda: backend.observe(STABLE).state == "failed", timeout_s=20, what="the failure")
    assert backend.observe(STABLE).message == "no such class"


def test_a_canary_that_hangs_does_not_fail_the_stable(
    api: KubernetesDouble, backend: SeldonBackend, cluster: Cluster
) -> None:
    backend.apply(STABLE)
    wait_until(lambda: backend.observe(STABLE).state == "ready", timeout_s=20, what="pods")
    api.script(outcomes.never_ready(), image=FINE)
    backend.apply(CANARY)
    wait_until(lambda: backend.pods_of(SERVING, CANARY.key), timeout_s=20, what="the canary's pod")
    assert backend.observe(CANARY).state == "starting"
    later = SeldonBackend(settings(), cluster, clock=lambda: 4e9)
    assert later.observe(CANARY).state == "failed"
    assert later.observe(STABLE).state == "ready"


def test_a_deployment_of_somebody_else_is_left_alone(api: KubernetesDouble, backend: SeldonBackend) -> None:
    theirs = {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {"name": "digits"},
        "spec": {"predictors": [{"name": "p", "labels": {}, "annotations": {}}]},
    }
    api.on_change("seldondeployments", lambda _: None)
    api.create("seldondeployments", theirs)
    with pytest.raises(AlreadyExists):
        backend.apply(STABLE)
    backend.remove(SERVING, [STABLE.key])
    backend.route(SERVING, {})
    assert backend.observe(STABLE).state == "absent"
    assert backend.remove_all(SERVING)
    assert traffic_names(api) == ["p"]


def traffic_names(api: KubernetesDouble) -> list[str]:
    found = api.get("seldondeployments", "digits")
    assert found is not None
    return [each["name"] for each in found["spec"]["predictors"]]


def test_what_seldon_cannot_serve_reaches_no_cluster(api: KubernetesDouble, backend: SeldonBackend) -> None:
    for call in (backend.check, backend.apply):
        with pytest.raises(InvalidField, match="convert"):
            call(workload(model=model("H5")))
    assert api.asked == []
