"""The double behaves as a Kubernetes API server does, for the official client."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException

from tests.kubernetes_double import outcomes
from tests.kubernetes_double.double import KubernetesDouble

HERE = "default"
CONTAINER = {"name": "main", "image": "example/main:1"}


def deployment(name: str = "web", image: str = "example/main:1", replicas: int = 2) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
        },
    }


def job(name: str = "work", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0,
            **spec,
            "template": {"spec": {"restartPolicy": "Never", "containers": [CONTAINER]}},
        },
    }


@pytest.fixture
def api() -> Iterator[KubernetesDouble]:
    with KubernetesDouble() as running:
        yield running


@pytest.fixture
def connection(api: KubernetesDouble) -> Iterator[client.ApiClient]:
    with client.ApiClient(api.client_configuration()) as opened:
        yield opened


@pytest.fixture
def apps(connection: client.ApiClient) -> client.AppsV1Api:
    return client.AppsV1Api(connection)


@pytest.fixture
def batch(connection: client.ApiClient) -> client.BatchV1Api:
    return client.BatchV1Api(connection)


@pytest.fixture
def core(connection: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(connection)


def ended(jobs: list[dict[str, Any]]) -> bool:
    return bool(jobs) and bool(jobs[0].get("status", {}).get("conditions"))


def apply(apps: client.AppsV1Api, body: dict[str, Any], manager: str, *, force: bool = False) -> Any:
    return apps.patch_namespaced_deployment(
        body["metadata"]["name"],
        HERE,
        body,
        field_manager=manager,
        force=force,
        _content_type="application/apply-patch+yaml",
    )


def test_a_deployment_gets_pods_that_are_ready_and_loses_them_with_it(
    api: KubernetesDouble, apps: client.AppsV1Api, core: client.CoreV1Api
) -> None:
    apps.create_namespaced_deployment(HERE, deployment())
    api.wait_for("deployments", lambda all: all[0].get("status", {}).get("availableReplicas") == 2)
    told = apps.read_namespaced_deployment_status("web", HERE).status
    assert (told.observed_generation, told.updated_replicas) == (1, 2)
    assert [each.reason for each in told.conditions if each.type == "Progressing"] == [
        "NewReplicaSetAvailable"
    ]
    assert len(core.list_namespaced_pod(HERE, label_selector="app in (web),!gone").items) == 2
    apps.patch_namespaced_deployment_scale("web", HERE, {"spec": {"replicas": 3}})
    api.wait_for("pods", lambda pods: len(pods) == 3)
    apps.delete_namespaced_deployment("web", HERE)
    api.wait_for("pods", lambda pods: not pods)


def test_a_rollout_keeps_the_old_pods_until_the_new_ones_are_ready(
    api: KubernetesDouble, apps: client.AppsV1Api
) -> None:
    api.script(outcomes.never_ready(), image="*:2")
    apps.create_namespaced_deployment(HERE, deployment() | {})
    api.wait_for("deployments", lambda all: all[0].get("status", {}).get("availableReplicas") == 2)
    changed = deployment(image="example/main:2")
    changed["spec"]["progressDeadlineSeconds"] = 1
    apps.patch_namespaced_deployment("web", HERE, changed)
    api.wait_for(
        "deployments",
        lambda all: "ProgressDeadlineExceeded" in [each["reason"] for each in all[0]["status"]["conditions"]],
    )
    told = apps.read_namespaced_deployment("web", HERE).status
    assert (told.available_replicas, told.replicas, told.observed_generation) == (2, 4, 2)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (outcomes.succeeds(), "Completed"),
        (outcomes.fails(19), "Error"),
        (outcomes.out_of_memory(), "OOMKilled"),
    ],
)
def test_a_job_ends_as_its_pod_does(
    api: KubernetesDouble,
    batch: client.BatchV1Api,
    core: client.CoreV1Api,
    outcome: outcomes.Outcome,
    reason: str,
) -> None:
    api.script(outcome, image="example/*")
    batch.create_namespaced_job(HERE, job())
    api.wait_for("jobs", ended)
    told = batch.read_namespaced_job("work", HERE).status
    (pod,) = core.list_namespaced_pod(HERE, label_selector="job-name=work").items
    assert pod.status.container_statuses[0].state.terminated.exit_code == outcome.code
    assert pod.status.container_statuses[0].state.terminated.reason == reason
    assert told.conditions[0].type == ("Failed" if outcome.code else "Complete")


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (outcomes.image_pull_back_off(), "ImagePullBackOff"),
        (outcomes.invalid_image(), "InvalidImageName"),
        (outcomes.creating(), "ContainerCreating"),
    ],
)
def test_a_pod_that_cannot_start_waits_with_a_reason(
    api: KubernetesDouble, batch: client.BatchV1Api, outcome: outcomes.Outcome, reason: str
) -> None:
    api.script(outcome)
    batch.create_namespaced_job(HERE, job())

    def waits(pods: list[dict[str, Any]]) -> bool:
        statuses = pods[0].get("status", {}).get("containerStatuses", []) if pods else []
        return [each["state"].get("waiting", {}).get("reason") for each in statuses] == [reason]

    api.wait_for("pods", waits)
    assert not ended(api.list("jobs"))


def test_an_unschedulable_pod_says_so_in_its_condition_and_an_event(
    api: KubernetesDouble, batch: client.BatchV1Api, core: client.CoreV1Api
) -> None:
    api.script(outcomes.unschedulable("0/3 nodes are available"))
    batch.create_namespaced_job(HERE, job())
    api.wait_for("pods", lambda pods: pods and pods[0].get("status", {}).get("conditions"))
    (condition,) = core.list_namespaced_pod(HERE).items[0].status.conditions
    assert (condition.reason, condition.message) == ("Unschedulable", "0/3 nodes are available")
    api.wait_for("events", bool)
    events = core.list_namespaced_event(HERE, field_selector="involvedObject.kind=Pod").items
    assert [each.reason for each in events] == ["FailedScheduling"]


def test_evicted_and_deleted_pods_fail_their_job(api: KubernetesDouble, batch: client.BatchV1Api) -> None:
    api.script(outcomes.evicted("no room"), times=1)
    batch.create_namespaced_job(HERE, job("first"))
    api.wait_for("jobs", ended)
    assert (api.list("pods")[0]["status"]["reason"], api.list("pods")[0]["status"]["message"]) == (
        "Evicted",
        "no room",
    )
    api.script(outcomes.runs())
    batch.create_namespaced_job(HERE, job("second"))
    (pod,) = api.wait_for("pods", lambda pods: len(pods) == 2)[1:]
    api.delete("pods", pod["metadata"]["name"])
    api.wait_for("jobs", lambda jobs: ended(jobs[1:]))
    assert api.list("jobs")[1]["status"]["conditions"][0]["reason"] == "BackoffLimitExceeded"


def test_a_job_has_a_deadline_and_goes_after_its_time_to_live(
    api: KubernetesDouble, batch: client.BatchV1Api
) -> None:
    api.script(outcomes.runs())
    batch.create_namespaced_job(HERE, job(activeDeadlineSeconds=1, ttlSecondsAfterFinished=1))
    api.wait_for("jobs", ended)
    assert api.list("jobs")[0]["status"]["conditions"][0]["reason"] == "DeadlineExceeded"
    api.wait_for("jobs", lambda jobs: not jobs)
    api.wait_for("pods", lambda pods: not pods)


def test_without_a_propagation_policy_the_pods_of_a_job_stay(
    api: KubernetesDouble, batch: client.BatchV1Api
) -> None:
    for policy, left in ((None, 1), ("Foreground", 1), ("Background", 1)):
        batch.create_namespaced_job(HERE, job(str(policy).lower()))
        api.wait_for("jobs", ended)
        more = {"propagation_policy": policy} if policy else {}
        batch.delete_namespaced_job(str(policy).lower(), HERE, **more)
        api.wait_for("jobs", lambda jobs: not jobs)
        api.wait_for("pods", lambda pods, left=left: len(pods) == left)


def test_a_container_can_be_a_real_process_with_its_log(
    api: KubernetesDouble, batch: client.BatchV1Api, core: client.CoreV1Api
) -> None:
    def start(pod: Any, container: Any) -> subprocess.Popen[str]:
        code = f"print('I am {container['name']}'); raise SystemExit(7)"
        command = [sys.executable, "-c", code]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    api.script(outcomes.process(start))
    batch.create_namespaced_job(HERE, job())
    api.wait_for("jobs", ended)
    (pod,) = core.list_namespaced_pod(HERE).items
    assert pod.status.container_statuses[0].state.terminated.exit_code == 7
    assert core.read_namespaced_pod_log(pod.metadata.name, HERE, tail_lines=5) == "I am main\n"
    with pytest.raises(ApiException, match="previous terminated container"):
        core.read_namespaced_pod_log(pod.metadata.name, HERE, previous=True)


def test_a_pod_waits_for_the_secrets_that_it_mounts(api: KubernetesDouble) -> None:
    volume = {"name": "token", "secret": {"secretName": "late"}}
    api.create(
        "pods", {"metadata": {"name": "one"}, "spec": {"containers": [CONTAINER], "volumes": [volume]}}
    )

    def waits(pods: list[dict[str, Any]]) -> bool:
        statuses = pods[0].get("status", {}).get("containerStatuses", [])
        return [each["state"] for each in statuses] == [{"waiting": {"reason": "ContainerCreating"}}]

    api.wait_for("pods", waits)
    api.create("secrets", {"metadata": {"name": "late"}, "data": {}})
    api.wait_for("pods", lambda pods: pods[0]["status"]["phase"] == "Running")


def test_a_crash_loop_has_a_last_state_and_a_previous_log(
    api: KubernetesDouble, apps: client.AppsV1Api, core: client.CoreV1Api
) -> None:
    api.script(outcomes.crash_loop(3, log="I fall"))
    apps.create_namespaced_deployment(HERE, deployment(replicas=1))

    def loops(pods: list[dict[str, Any]]) -> bool:
        statuses = pods[0].get("status", {}).get("containerStatuses", []) if pods else []
        return [each["state"].get("waiting", {}).get("reason") for each in statuses] == ["CrashLoopBackOff"]

    (pod,) = api.wait_for("pods", loops)
    (status,) = core.read_namespaced_pod(pod["metadata"]["name"], HERE).status.container_statuses
    assert (status.last_state.terminated.exit_code, status.restart_count) == (3, 3)
    assert "I fall" in core.read_namespaced_pod_log(pod["metadata"]["name"], HERE, previous=True)


def test_names_versions_and_fields_are_checked(apps: client.AppsV1Api) -> None:
    apps.create_namespaced_deployment(HERE, deployment())
    with pytest.raises(ApiException) as taken:
        apps.create_namespaced_deployment(HERE, deployment())
    assert taken.value.status == 409
    found = apps.read_namespaced_deployment("web", HERE)
    found.metadata.resource_version = "1"
    with pytest.raises(ApiException) as stale:
        apps.replace_namespaced_deployment("web", HERE, found)
    assert stale.value.status == 409
    wrong = deployment("other")
    wrong["spec"]["selector"]["matchLabels"] = {"app": "another"}
    with pytest.raises(ApiException) as invalid:
        apps.create_namespaced_deployment(HERE, wrong)
    assert invalid.value.status == 422
    with pytest.raises(ApiException) as nowhere:
        apps.create_namespaced_deployment("nowhere", deployment())
    assert nowhere.value.status == 404


def test_unknown_fields_are_refused_where_that_is_asked_for(apps: client.AppsV1Api) -> None:
    misspelt = deployment("other")
    misspelt["spec"]["replica"] = 1
    path = f"{apps.api_client.configuration.host}/apis/apps/v1/namespaces/{HERE}/deployments"
    headers = {"Content-Type": "application/json"}
    headers["Authorization"] = apps.api_client.configuration.api_key["authorization"]
    strictly = f"{path}?fieldValidation=Strict"
    answer = apps.api_client.call_api("POST", strictly, header_params=headers, body=misspelt)
    assert answer.status == 400


def test_who_applies_owns_and_a_second_manager_conflicts(
    api: KubernetesDouble, apps: client.AppsV1Api
) -> None:
    apply(apps, deployment(replicas=2), "catchment")
    with pytest.raises(ApiException) as conflict:
        apply(apps, deployment(replicas=3), "other")
    assert conflict.value.status == 409
    assert ".spec.replicas" in conflict.value.body
    apply(apps, deployment(replicas=3), "other", force=True)
    assert api.get("deployments", "web")["spec"]["replicas"] == 3  # type: ignore[index]


def test_what_an_apply_no_longer_names_is_removed_and_what_others_set_stays(
    api: KubernetesDouble, apps: client.AppsV1Api
) -> None:
    first = deployment()
    first["metadata"]["labels"] = {"mine": "1", "old": "1"}
    first["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "2"},
    ]
    apply(apps, first, "catchment")

    def label(live: dict[str, Any]) -> dict[str, Any]:
        live["metadata"]["labels"]["theirs"] = "1"
        return live

    api.edit("deployments", "web", label)
    del first["metadata"]["labels"]["old"]
    del first["spec"]["template"]["spec"]["containers"][0]["env"][0]
    apply(apps, first, "catchment")
    found = api.get("deployments", "web")
    assert found is not None
    assert found["metadata"]["labels"] == {"mine": "1", "theirs": "1"}
    assert [each["name"] for each in found["spec"]["template"]["spec"]["containers"][0]["env"]] == ["B"]
    api.pause()  # statuses are written meanwhile otherwise
    found = api.get("deployments", "web")
    assert found is not None
    version = found["metadata"]["resourceVersion"]
    apply(apps, first, "catchment")
    assert api.get("deployments", "web")["metadata"]["resourceVersion"] == version  # type: ignore[index]


def test_a_watch_tells_all_and_is_gone_on_demand(api: KubernetesDouble, core: client.CoreV1Api) -> None:
    api.create("configmaps", {"metadata": {"name": "a", "labels": {"app": "x"}}})
    listed = core.list_namespaced_config_map(HERE)
    api.create("configmaps", {"metadata": {"name": "b", "labels": {"app": "x"}}})
    api.edit("configmaps", "a", lambda live: live | {"metadata": {**live["metadata"], "labels": {}}})
    api.delete("configmaps", "b")
    seen = watch.Watch().stream(
        core.list_namespaced_config_map,
        HERE,
        resource_version=listed.metadata.resource_version,
        label_selector="app=x",
        timeout_seconds=1,
    )
    told = [(each["type"], each["object"].metadata.name) for each in seen]
    assert told == [("ADDED", "b"), ("DELETED", "a"), ("DELETED", "b")]
    api.expire_watches()
    with pytest.raises(ApiException) as gone:
        list(
            watch.Watch().stream(
                core.list_namespaced_config_map, HERE, resource_version="5", timeout_seconds=1
            )
        )
    assert gone.value.status == 410


def test_custom_resources_have_statuses_from_hooks(
    api: KubernetesDouble, connection: client.ApiClient
) -> None:
    custom = client.CustomObjectsApi(connection)
    api.on_change("inferenceservices", lambda found: {"url": f"http://{found['metadata']['name']}"})
    body = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "digits"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "onnx"}}}},
    }
    where = ("serving.kserve.io", "v1beta1", HERE, "inferenceservices")
    custom.create_namespaced_custom_object(*where, body)
    api.wait_for("inferenceservices", lambda all: all[0].get("status"))
    assert custom.get_namespaced_custom_object(*where, "digits")["status"] == {"url": "http://digits"}
    with pytest.raises(ApiException) as strategic:
        custom.patch_namespaced_custom_object(
            *where, "digits", {}, _content_type="application/strategic-merge-patch+json"
        )
    assert strategic.value.status == 415


def test_what_is_not_installed_is_not_found() -> None:
    with (
        KubernetesDouble(without=("serving.kserve.io",)) as api,
        client.ApiClient(api.client_configuration()) as connection,
    ):
        custom = client.CustomObjectsApi(connection)
        with pytest.raises(ApiException) as missing:
            custom.list_namespaced_custom_object("serving.kserve.io", "v1beta1", HERE, "inferenceservices")
        assert missing.value.status == 404


def test_tokens_rights_and_faults(api: KubernetesDouble, core: client.CoreV1Api) -> None:
    with client.ApiClient(api.client_configuration(token="wrong")) as other:
        with pytest.raises(ApiException) as unknown:
            client.CoreV1Api(other).list_namespaced_pod(HERE)
        assert unknown.value.status == 401
    api.forbid("list", "pods")
    with pytest.raises(ApiException) as forbidden:
        core.list_namespaced_pod(HERE)
    assert forbidden.value.status == 403
    api.allow()
    api.fail("list", "pods", 500)
    with pytest.raises(ApiException) as broken:
        core.list_namespaced_pod(HERE)
    assert broken.value.status == 500
    assert core.list_namespaced_pod(HERE).items == []


def test_a_connection_can_be_cut_after_the_write_was_done(
    api: KubernetesDouble, core: client.CoreV1Api
) -> None:
    api.cut("create", "configmaps", after=True)
    with pytest.raises(Exception, match=r"closed|aborted|Max retries|reset"):
        core.create_namespaced_config_map(HERE, {"metadata": {"name": "kept"}})
    assert api.get("configmaps", "kept") is not None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_ends_a_part_of_the_double_is_told_to_who_waits_and_at_its_end() -> None:
    def broken(_: dict[str, Any]) -> None:
        raise LookupError("the hook has a fault")

    running = ExitStack()
    api = running.enter_context(KubernetesDouble())
    api.on_change("configmaps", broken)
    api.create("configmaps", {"metadata": {"name": "a"}})
    with pytest.raises(AssertionError, match="the hook has a fault"):
        api.wait_for("configmaps", lambda _: False)
    with pytest.raises(LookupError, match="the hook has a fault"):
        running.close()


def test_a_handler_that_fails_is_told_at_the_end_of_the_double(monkeypatch: pytest.MonkeyPatch) -> None:
    running = ExitStack()
    api = running.enter_context(KubernetesDouble())
    monkeypatch.setattr(api.faults, "take", None)
    with client.ApiClient(api.client_configuration()) as connection:
        core = client.CoreV1Api(connection)
        with pytest.raises(Exception, match=r"closed|aborted|Max retries|reset"):
            core.list_namespaced_pod(HERE)
    with pytest.raises(TypeError, match="not callable"):
        running.close()
