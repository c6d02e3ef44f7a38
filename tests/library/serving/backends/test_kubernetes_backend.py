"""What plain Kubernetes does to servings, and what others do to them there."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from catchment.errors import AlreadyExists, ClusterRefused, InvalidField, NotFound, Unreachable
from catchment.kubernetes.client import Cluster
from catchment.serving.backends.kubernetes import KubernetesBackend
from catchment.serving.workload import Endpoint, Observed, ServingKey, Workload
from tests.conftest import wait_until
from tests.kubernetes_double import outcomes
from tests.kubernetes_double.double import KubernetesDouble
from tests.serving_workloads import SERVING, model, settings, workload

GENERATION, VERSION = "generation", "resourceVersion"


def settled(backend: KubernetesBackend, wanted: Workload, state: str = "ready") -> Observed:
    def look() -> Observed | None:
        seen = backend.observe(wanted)
        return seen if seen.state == state else None

    seen = wait_until(look, timeout_s=20, what=f"a workload that is {state}")
    assert isinstance(seen, Observed)
    return seen


def waiting(backend: KubernetesBackend, wanted: Workload, words: str) -> Observed:
    """Once the message says so."""

    def look() -> Observed | None:
        seen = backend.observe(wanted)
        return seen if words in seen.message else None

    seen = wait_until(look, timeout_s=20, what=f"a message with {words!r}")
    assert isinstance(seen, Observed)
    return seen


def test_applying_again_changes_nothing(api: KubernetesDouble, backend: KubernetesBackend) -> None:
    wanted = workload(replicas=2)
    backend.apply(wanted)
    settled(backend, wanted)
    # A Deployment's status changes by itself, and a Service has no generation.
    counted = {"deployments": GENERATION, "services": VERSION, "poddisruptionbudgets": VERSION}
    before = {
        plural: api.get(plural, wanted.key)["metadata"][count]  # type: ignore[index]
        for plural, count in counted.items()
    }
    pods = {pod["metadata"]["uid"] for pod in api.list("pods")}
    backend.apply(wanted)
    assert backend.observe(wanted).state == "ready"
    assert {pod["metadata"]["uid"] for pod in api.list("pods")} == pods
    for plural, count in counted.items():
        assert api.get(plural, wanted.key)["metadata"][count] == before[plural]  # type: ignore[index]


def test_one_replica_has_no_disruption_budget(api: KubernetesDouble, backend: KubernetesBackend) -> None:
    wanted = workload(replicas=2)
    backend.apply(wanted)
    assert api.get("poddisruptionbudgets", wanted.key)
    backend.apply(wanted.scaled(1))
    assert api.get("poddisruptionbudgets", wanted.key) is None


def test_what_others_have_set_is_set_back_and_told(
    api: KubernetesDouble, backend: KubernetesBackend, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = workload()
    backend.apply(wanted)

    def scale(found: dict[str, Any]) -> dict[str, Any]:
        found["spec"]["replicas"] = 5
        return found

    api.edit("deployments", wanted.key, scale)
    with caplog.at_level(logging.WARNING):
        backend.apply(wanted)
    assert "set back" in caplog.text
    assert api.get("deployments", wanted.key)["spec"]["replicas"] == 1  # type: ignore[index]
    settled(backend, wanted)


def test_objects_of_others_are_left_alone(api: KubernetesDouble, backend: KubernetesBackend) -> None:
    wanted = workload()
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": wanted.key, "labels": {"app": "x"}},
        "spec": {"ports": [{"port": 1}]},
    }
    api.create("services", theirs)
    with pytest.raises(AlreadyExists, match=wanted.key):
        backend.apply(wanted)
    backend.remove(wanted.serving, [wanted.key])
    backend.remove_all(wanted.serving)
    assert api.get("services", wanted.key)["metadata"]["labels"] == {"app": "x"}  # type: ignore[index]


def test_what_an_earlier_serving_of_the_name_left_is_replaced(
    api: KubernetesDouble, backend: KubernetesBackend
) -> None:
    old = workload(serving=replace(SERVING, uid="1" * 32))
    backend.apply(old)
    settled(backend, old)
    new = workload()
    assert backend.observe(new).state == "absent"
    assert backend.endpoints(new) == []

    with pytest.raises(Unreachable, match="earlier serving"):
        backend.apply(new)

    def applied() -> bool:
        try:
            backend.apply(new)
        except Unreachable:
            return False
        return True

    wait_until(applied, timeout_s=20, what="the new serving")
    settled(backend, new)
    backend.remove(old.serving, [old.key])
    assert backend.remove_all(old.serving)
    assert backend.observe(new).state == "ready"


def test_a_workload_that_somebody_deleted_is_absent_and_comes_back(
    api: KubernetesDouble, backend: KubernetesBackend
) -> None:
    wanted = workload()
    backend.apply(wanted)
    settled(backend, wanted)
    api.delete("deployments", wanted.key, propagationPolicy="Background")
    settled(backend, wanted, "absent")
    assert backend.endpoints(wanted) == []
    backend.apply(wanted)
    settled(backend, wanted)
    api.delete("services", wanted.key)
    assert backend.endpoints(wanted) == []
    backend.apply(wanted)
    assert backend.endpoints(wanted)


def test_a_pod_that_somebody_deleted_is_replaced(api: KubernetesDouble, backend: KubernetesBackend) -> None:
    wanted = workload()
    backend.apply(wanted)
    settled(backend, wanted)
    (pod,) = backend.pods(wanted.serving)
    api.delete("pods", pod["metadata"]["name"])

    def replaced() -> bool:
        names = [each["metadata"]["name"] for each in backend.pods(wanted.serving)]
        return len(names) == 1 and names != [pod["metadata"]["name"]]

    wait_until(replaced, timeout_s=20, what="another pod")
    settled(backend, wanted)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (outcomes.image_pull_back_off(), "failed to pull image"),
        (outcomes.unschedulable("0/3 nodes are available: 3 Insufficient cpu."), "Insufficient cpu"),
        (outcomes.creating(), "container is creating"),
        (outcomes.never_ready(), "0 of 1 replicas are ready"),
    ],
)
def test_what_may_still_come_is_waited_for_and_told(
    api: KubernetesDouble, backend: KubernetesBackend, outcome: outcomes.Outcome, words: str
) -> None:
    api.script(outcome, container="classifier")
    wanted = workload()
    backend.apply(wanted)
    assert waiting(backend, wanted, words).state == "starting"
    assert backend.endpoints(wanted) == []


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (outcomes.invalid_image(), "container image invalid"),
        (outcomes.out_of_memory(), "out of memory"),
        (outcomes.crash_loop(1), "container crashed"),
        (outcomes.crash_loop(3), "exit code 3"),
    ],
)
def test_what_cannot_come_up_has_failed(
    api: KubernetesDouble, backend: KubernetesBackend, outcome: outcomes.Outcome, words: str
) -> None:
    api.script(outcome, container="classifier")
    wanted = workload()
    backend.apply(wanted)
    seen = settled(backend, wanted, "failed")
    assert words in seen.message
    assert (seen.ready, seen.replicas) == (0, 1)


def test_a_model_that_is_another_than_it_was_fails_at_its_first_try(
    api: KubernetesDouble, backend: KubernetesBackend
) -> None:
    api.script(outcomes.fails(3, "DigestMismatch"), container="classifier-model-initializer")
    wanted = workload()
    backend.apply(wanted)
    assert "classifier-model-initializer" in settled(backend, wanted, "failed").message


def test_what_is_not_ready_in_time_has_failed_with_its_reason(
    api: KubernetesDouble, cluster: Cluster
) -> None:
    backend = KubernetesBackend(settings(serving_start_timeout_s=10), cluster)
    api.script(outcomes.image_pull_back_off(), container="classifier")
    wanted = workload()
    backend.apply(wanted)
    waiting(backend, wanted, "failed to pull image")

    def hurry(found: dict[str, Any]) -> dict[str, Any]:
        found["spec"]["progressDeadlineSeconds"] = 1
        return found

    api.edit("deployments", wanted.key, hurry)
    seen = settled(backend, wanted, "failed")
    assert "not ready in time" in seen.message
    assert "failed to pull image" in seen.message


def test_one_bad_replica_beside_a_good_one_is_no_failure(
    api: KubernetesDouble, backend: KubernetesBackend
) -> None:
    wanted = workload()
    backend.apply(wanted)
    settled(backend, wanted)
    api.script(outcomes.crash_loop(3), container="classifier")
    backend.apply(wanted.scaled(2))
    seen = waiting(backend, wanted.scaled(2), "container crashed")
    assert (seen.state, seen.ready, seen.replicas) == ("starting", 1, 2)
    assert backend.endpoints(wanted)


def test_endpoints_are_services_inside_the_cluster(backend: KubernetesBackend) -> None:
    wanted = workload()
    backend.apply(wanted)
    settled(backend, wanted)
    host = "digits-main-r1.default.svc.cluster.local"
    assert backend.endpoints(wanted) == [Endpoint(f"http://{host}:8000", f"{host}:8001", "digits")]


def test_a_runtime_without_grpc_has_no_address_for_it(cluster: Cluster, api: KubernetesDouble) -> None:
    backend = KubernetesBackend(settings(serving_openscoring_image="example.org/o:1"), cluster)
    wanted = workload(model=model("PMML"))
    backend.apply(wanted)
    settled(backend, wanted)
    assert [each.grpc for each in backend.endpoints(wanted)] == [""]


def test_the_route_holds_the_weights(api: KubernetesDouble, backend: KubernetesBackend) -> None:
    stable, canary = workload(1), workload(2)
    for each in (stable, canary):
        backend.apply(each)
    backend.route(SERVING, {stable.key: 95, canary.key: 5})
    route = api.get("httproutes", "digits")
    assert route is not None
    assert [(each["name"], each["weight"]) for each in route["spec"]["rules"][0]["backendRefs"]] == [
        (stable.key, 95),
        (canary.key, 5),
    ]
    backend.route(SERVING, {})
    assert api.get("httproutes", "digits") is None


def test_traffic_goes_only_to_what_is_applied(backend: KubernetesBackend) -> None:
    stable = workload()
    backend.apply(stable)
    with pytest.raises(NotFound, match="digits-main-r2"):
        backend.route(SERVING, {stable.key: 95, workload(2).key: 5})
    with pytest.raises(InvalidField, match="add up to 95"):
        backend.route(SERVING, {stable.key: 95})


def test_weights_that_somebody_changed_are_set_back(
    api: KubernetesDouble, backend: KubernetesBackend
) -> None:
    stable = workload()
    backend.apply(stable)
    backend.route(SERVING, {stable.key: 100})

    def other(found: dict[str, Any]) -> dict[str, Any]:
        found["spec"]["rules"][0]["backendRefs"][0]["weight"] = 1
        return found

    api.edit("httproutes", "digits", other)
    assert backend.routed(SERVING) == {stable.key: 1}
    backend.route(SERVING, {stable.key: 100})
    assert backend.routed(SERVING) == {stable.key: 100}


def test_a_cluster_without_gateway_api_is_told() -> None:
    with KubernetesDouble(without=("gateway.networking.k8s.io",)) as api:
        configuration = api.client_configuration()
        configuration.retries = False
        with Cluster(settings(), configuration) as cluster:
            backend = KubernetesBackend(settings(), cluster)
            wanted = workload()
            backend.apply(wanted)
            with pytest.raises(NotFound, match=r"gateway\.networking\.k8s\.io"):
                backend.route(SERVING, {wanted.key: 100})
            assert backend.routed(SERVING) == {}
            wait_until(lambda: backend.remove_all(SERVING), timeout_s=20, what="the end")


def test_logs_are_those_of_servings_only(api: KubernetesDouble, backend: KubernetesBackend) -> None:
    api.script(outcomes.runs("one\ntwo\nthree"), container="classifier")
    wanted = workload()
    backend.apply(wanted)
    settled(backend, wanted)
    (pod,) = backend.pods(SERVING)
    name = pod["metadata"]["name"]
    assert [text for _, text in backend.log_lines("default", name, "classifier", 2)] == ["two", "three"]
    assert [text for _, text in backend.log_lines("default", name, "", 1)] == ["three"]
    init = backend.log_lines("default", name, "classifier-model-initializer", 5)
    assert [text for _, text in init] == ["fetched"]
    other = {"metadata": {"name": "other"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    api.create("pods", {"apiVersion": "v1", "kind": "Pod", **other})
    for namespace, pod_name in (("default", "other"), ("default", "gone"), ("models", name)):
        with pytest.raises(NotFound):
            backend.log_lines(namespace, pod_name, "c", 5)


def test_everything_can_run_in_one_namespace_of_the_cluster(api: KubernetesDouble, cluster: Cluster) -> None:
    backend = KubernetesBackend(settings(kubernetes_namespace="models"), cluster)
    mine, theirs = workload(), workload(serving=ServingKey("team-b", "digits", "2" * 32))
    backend.apply(mine)
    settled(backend, mine)
    assert api.get("deployments", mine.key, "models")
    assert api.get("deployments", mine.key, "default") is None
    with pytest.raises(AlreadyExists, match="none of serving"):
        backend.apply(theirs)
    (pod,) = backend.pods(mine.serving)
    backend.log_lines("default", pod["metadata"]["name"], "", 1)
    with pytest.raises(NotFound):
        backend.log_lines("team-b", pod["metadata"]["name"], "", 1)


def test_a_cluster_that_does_not_answer_is_unreachable(
    api: KubernetesDouble, backend: KubernetesBackend
) -> None:
    wanted = workload()
    for code in (500, 503, 429):
        api.fail(code=code)
        with pytest.raises(Unreachable):
            backend.apply(wanted)
    api.cut()
    with pytest.raises(Unreachable):
        backend.observe(wanted)
    # Carried out, but the answer was lost: the next try finds what is there.
    api.cut("patch", "deployments", after=True)
    with pytest.raises(Unreachable):
        backend.apply(wanted)
    backend.apply(wanted)
    settled(backend, wanted)


def test_a_cluster_that_is_gone_is_unreachable_for_everything() -> None:
    with KubernetesDouble() as api:
        configuration = api.client_configuration()
        configuration.retries = False
    wanted = workload()
    with Cluster(settings(), configuration) as cluster:
        backend = KubernetesBackend(settings(), cluster)
        for call in (
            lambda: backend.apply(wanted),
            lambda: backend.observe(wanted),
            lambda: backend.endpoints(wanted),
            lambda: backend.route(SERVING, {}),
            lambda: backend.routed(SERVING),
            lambda: backend.remove(SERVING, [wanted.key]),
            lambda: backend.remove_all(SERVING),
            lambda: backend.pods(SERVING),
            lambda: backend.log_lines("default", "p", "c", 1),
        ):
            with pytest.raises(Unreachable):
                call()
        backend.check(wanted)


def test_a_right_that_catchment_lacks_is_named(api: KubernetesDouble, backend: KubernetesBackend) -> None:
    api.forbid("patch", "deployments")
    with pytest.raises(ClusterRefused, match=r"deployments\.apps"):
        backend.apply(workload())


def test_a_removal_that_was_cut_off_is_taken_up(api: KubernetesDouble, backend: KubernetesBackend) -> None:
    wanted = workload(replicas=2)
    backend.apply(wanted)
    settled(backend, wanted)
    api.cut("delete", "services")
    with pytest.raises(Unreachable):
        backend.remove(SERVING, [wanted.key])
    backend.remove(SERVING, [wanted.key])
    settled(backend, wanted, "absent")
    for plural in ("deployments", "services", "poddisruptionbudgets", "pods"):
        assert api.list(plural) == []


def test_what_cannot_run_reaches_no_cluster(api: KubernetesDouble, backend: KubernetesBackend) -> None:
    wrong = workload(model=model("H5"))
    for call in (backend.check, backend.apply):
        with pytest.raises(InvalidField, match="convert"):
            call(wrong)
    assert api.asked == []


def test_resources_that_the_cluster_refuses_are_told_by_field(backend: KubernetesBackend) -> None:
    wrong = workload(resources={"limits": {"memory": "a lot"}})
    with pytest.raises(InvalidField):
        backend.apply(wrong)
