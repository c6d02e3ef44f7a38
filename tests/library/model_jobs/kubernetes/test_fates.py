"""Whatever becomes of a pod, the ModelJob says it: phase, message, and whether trying again can help."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import select

from catchment import access
from catchment.errors import CatchmentError, JobStopped, NotFound, PodFailed, PodLost, TransferError
from catchment.kubernetes.pods import EXIT_CODES
from catchment.model_jobs import executing, manager, steps
from catchment.model_jobs.claim import claim
from catchment.model_jobs.kubernetes import executor, manifests
from catchment.model_jobs.supervise import ModelJobs
from catchment.runs.supervise import supervise_once
from catchment.store.schema import tokens
from tests.api.serving import RecordingLauncher
from tests.conftest import wait_until
from tests.kubernetes_double import outcomes
from tests.library.model_jobs.kubernetes.conftest import START_S, Clock, Cluster


def error_of(cluster: Cluster) -> CatchmentError:
    """What the step's task is raised, which decides whether it is retried."""
    held = claim(cluster.store, "default", "job", flow_run_id="run", attempt=1)
    steps.pull(cluster.store, held)
    with pytest.raises(CatchmentError) as caught:
        steps.extract(cluster.store, held)
    return caught.value


@pytest.mark.parametrize("code", [16, 17, 18, 19, 20, 21])
def test_each_exit_code_has_the_originals_words(scripted: Cluster, code: int) -> None:
    container = {16: "model-initializer", 17: "model-initializer", 18: "model-initializer", 19: "executor"}
    scripted.api.script(outcomes.fails(code, log="so it ends"), container=container.get(code, "publisher"))
    error = error_of(scripted)
    assert str(error) == EXIT_CODES[code]
    assert isinstance(error, TransferError if code in (17, 21) else PodFailed)


def test_a_failed_pod_fails_the_job_with_its_words_and_its_log(scripted: Cluster) -> None:
    scripted.api.script(outcomes.fails(18, log="no space left on device"), container="model-initializer")
    with scripted.working() as result:
        found = result()
    assert (found["status"]["phase"], found["status"]["message"]) == (
        "Failed",
        "failed to export model to local",
    )


def test_memory_that_is_not_enough_is_said(scripted: Cluster) -> None:
    scripted.api.script(outcomes.out_of_memory(), container="executor")
    error = error_of(scripted)
    assert isinstance(error, PodFailed)
    assert (str(error), error.kind) == ("container out of memory: executor", "out of memory")


def test_an_executor_that_crashes_is_said(scripted: Cluster) -> None:
    scripted.api.script(outcomes.fails(139), container="executor")
    assert str(error_of(scripted)) == "container executor ended with exit code 139"


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (outcomes.image_pull_back_off(), "failed to pull image"),
        (outcomes.unschedulable("0/3 nodes are available"), "0/3 nodes are available"),
        (outcomes.creating(), "container is creating"),
    ],
)
def test_a_pod_that_waits_makes_the_job_pending_and_fails_it_in_the_end(
    scripted: Cluster, clock: Clock, outcome: outcomes.Outcome, words: str
) -> None:
    scripted.api.script(outcome)
    with scripted.working() as result:
        waiting = scripted.await_message(words)
        assert waiting["status"]["phase"] == "Pending"
        clock.skip(START_S)
        found = result()
    assert found["status"]["phase"] == "Failed"
    assert found["status"]["message"].startswith(words)
    assert found["status"]["message"].endswith("(after 45 s of waiting)")
    scripted.api.wait_for("jobs", lambda jobs: not jobs)
    scripted.api.wait_for("pods", lambda pods: not pods)


def test_an_invalid_image_fails_at_once(scripted: Cluster) -> None:
    scripted.api.script(outcomes.invalid_image())
    error = error_of(scripted)
    assert str(error).startswith("container image invalid")
    assert "of waiting" not in str(error)


def test_a_pod_that_was_evicted_or_deleted_can_be_tried_again(scripted: Cluster) -> None:
    scripted.api.script(outcomes.evicted("The node was low on resource: memory."), times=1)
    error = error_of(scripted)
    assert isinstance(error, PodLost)
    assert "The node was low on resource: memory." in str(error)


@pytest.mark.parametrize("plural", ["pods", "jobs"])
def test_what_is_deleted_from_outside_can_be_tried_again(scripted: Cluster, plural: str) -> None:
    scripted.api.script(outcomes.runs(), container="executor")
    with scripted.working() as result:
        (found,) = scripted.api.wait_for(plural, bool)
        scripted.await_message("modelJob running")
        scripted.api.delete(plural, found["metadata"]["name"], propagationPolicy="Background")
        ended = result()
    assert ended["status"]["phase"] == "Failed"
    assert "deleted from outside" in ended["status"]["message"]


def test_another_try_makes_another_job(scripted: Cluster) -> None:
    scripted.api.script(outcomes.evicted(), times=1)
    held = claim(scripted.store, "default", "job", flow_run_id="run", attempt=1)
    steps.pull(scripted.store, held)
    with pytest.raises(PodLost):
        steps.extract(scripted.store, held)
    (first,) = scripted.jobs()
    scripted.api.script(outcomes.fails(19), container="executor")
    with pytest.raises(PodFailed):
        steps.extract(scripted.store, held)
    (second,) = scripted.jobs()
    assert first["metadata"]["uid"] != second["metadata"]["uid"]


def test_another_try_does_not_go_on_with_a_job_whose_pod_is_lost(scripted: Cluster) -> None:
    """Its pod was evicted, which the Job itself does not say yet."""
    scripted.api.script(outcomes.fails(19), container="executor")
    uid = scripted.job()["metadata"]["uid"]
    work = manifests.StepJob(uid, "extract", "default/job", "extraction")
    scripted.api.pause()
    left = scripted.api.create("jobs", manifests.job(work, scripted.store.settings))
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": work.name, "uid": left["metadata"]["uid"]}
    lost = {"name": "lost", "labels": {"job-name": work.name}, "ownerReferences": [owner]}
    spec = {"restartPolicy": "Never", "containers": [{"name": "publisher", "image": "x"}]}
    pod = scripted.api.create("pods", {"metadata": lost, "spec": spec})
    scripted.api.evict(pod["metadata"]["name"])
    with scripted.working() as result:
        scripted.api.wait_for("jobs", lambda jobs: jobs and jobs[0]["metadata"]["uid"] != owner["uid"])
        scripted.api.resume()
        assert result()["status"]["message"] == EXIT_CODES[19]


def test_a_token_that_was_taken_from_a_waiting_pod_is_given_again(scripted: Cluster) -> None:
    """As by a garbage collector that had looked at the Secret while it was an earlier Job's."""
    scripted.api.script(outcomes.fails(19), container="executor")
    scripted.api.pause()
    with scripted.working() as result:
        (first,) = scripted.api.wait_for("secrets", bool)
        scripted.api.delete("secrets", first["metadata"]["name"])
        (second,) = scripted.api.wait_for("secrets", bool)
        assert first["data"] != second["data"]
        scripted.api.resume()
        assert result()["status"]["message"] == EXIT_CODES[19]


def test_a_run_that_gives_up_late_leaves_the_job_of_its_successor(scripted: Cluster, clock: Clock) -> None:
    scripted.api.script(outcomes.creating())
    scripted.api.slow(60, "delete", "jobs")
    with scripted.working() as result:
        scripted.await_message("container is creating")
        clock.skip(START_S)
        wait_until(
            lambda: not any(each.times for each in scripted.api.faults.waiting),
            timeout_s=60,
            what="the deletion",
        )
        (first,) = scripted.jobs()
        name = first["metadata"]["name"]
        scripted.api.delete("jobs", name, propagationPolicy="Background")
        second = scripted.api.create("jobs", {"metadata": {"name": name}, "spec": first["spec"]})
        scripted.api.allow()
        assert "of waiting" in result()["status"]["message"]
    assert [each["metadata"]["uid"] for each in scripted.jobs()] == [second["metadata"]["uid"]]


def test_the_pod_that_an_earlier_job_of_the_name_left_says_nothing(scripted: Cluster) -> None:
    uid = scripted.job()["metadata"]["uid"]
    scripted.api.script(outcomes.evicted(), labels={"left": "over"})
    labels = {"job-name": f"modeljob-{uid}-extract", "left": "over"}
    spec = {"restartPolicy": "Never", "containers": [{"name": "executor", "image": "x"}]}
    scripted.api.create("pods", {"metadata": {"name": "older", "labels": labels}, "spec": spec})
    scripted.api.wait_for("pods", lambda pods: pods[0].get("status", {}).get("phase") == "Failed")
    scripted.api.script(outcomes.fails(19), container="executor")
    scripted.api.pause()  # so that for a while it is the only pod
    with scripted.working() as result:
        scripted.await_message("container is creating")
        scripted.api.resume()
        assert result()["status"]["message"] == EXIT_CODES[19]


def test_a_pod_that_ends_well_and_brings_nothing_has_failed(scripted: Cluster) -> None:
    scripted.api.script(outcomes.succeeds())
    assert str(error_of(scripted)) == "its pod ended well, and brought nothing"


def test_a_stop_takes_the_job_away_within_ten_seconds(scripted: Cluster) -> None:
    scripted.api.script(outcomes.runs(), container="executor")
    with scripted.working() as result:
        scripted.api.wait_for("pods", bool)
        began = time.monotonic()
        manager.request_stop_of_run(scripted.store, "run")
        found = result()
        scripted.api.wait_for("jobs", lambda jobs: not jobs)
        assert time.monotonic() - began < 10
        scripted.api.wait_for("pods", lambda pods: not pods)
        scripted.api.wait_for("secrets", lambda secrets: not secrets)
    assert (found["status"]["phase"], found["status"]["message"]) == ("Failed", "stopped")


def test_a_stop_is_through_within_ten_seconds_while_the_cluster_hangs(scripted: Cluster) -> None:
    scripted.api.script(outcomes.runs(), container="executor")
    with scripted.working() as result:
        scripted.api.wait_for("pods", bool)
        scripted.api.slow(30, "get", "jobs", times=5)
        wait_until(
            lambda: any(fault.times < 5 for fault in scripted.api.faults.waiting),
            timeout_s=10,
            what="a slow call",
        )
        began = time.monotonic()
        manager.request_stop_of_run(scripted.store, "run")
        assert result()["status"]["message"] == "stopped"
    assert time.monotonic() - began < 10


def test_a_cluster_that_is_away_for_a_moment_does_not_matter(scripted: Cluster) -> None:
    scripted.api.script(outcomes.runs(), container="executor")
    with scripted.working() as result:
        (pod,) = scripted.api.wait_for("pods", lambda pods: pods and pods[0].get("status"))
        scripted.api.fail("get", "jobs", 503)
        scripted.api.cut("list", "pods")
        wait_until(
            lambda: not any(each.times for each in scripted.api.faults.waiting),
            timeout_s=20,
            what="both faults",
        )
        scripted.await_message("modelJob running")
        scripted.api.evict(pod["metadata"]["name"])
        assert "evicted" in result()["status"]["message"]
    assert "PodWaiting" not in scripted.reasons()


def test_a_cluster_that_stays_away_is_said_and_given_up(scripted: Cluster, clock: Clock) -> None:
    scripted.api.script(outcomes.runs(), container="executor")
    with scripted.working() as result:
        scripted.api.wait_for("pods", bool)
        scripted.api.fail("get", "jobs", 503, times=1000)
        wait_until(
            lambda: any(each.times < 1000 for each in scripted.api.faults.waiting),
            timeout_s=60,
            what="an answer that says so",
        )
        clock.skip(executor.AWAY_S)
        assert scripted.await_message("waiting for the cluster")["status"]["phase"] == "Pending"
        clock.skip(START_S)
        assert "the cluster cannot get jobs.batch" in result()["status"]["message"]


def test_a_job_whose_creation_was_not_answered_is_not_made_twice(scripted: Cluster) -> None:
    scripted.api.script(outcomes.fails(19), container="executor")
    scripted.api.cut("create", "jobs", after=True)
    held = claim(scripted.store, "default", "job", flow_run_id="run", attempt=1)
    steps.pull(scripted.store, held)
    for _ in range(2):  # the first is what the flow's task retries
        with pytest.raises(CatchmentError) as caught:
            steps.extract(scripted.store, held)
    assert str(caught.value) == "failed to run extract/convert task"
    assert (
        len([each for each in scripted.api.asked if each.verb == "create" and each.resource == "jobs"]) == 1
    )


def test_a_missing_right_is_named(scripted: Cluster) -> None:
    scripted.api.forbid("create", "jobs")
    with scripted.working() as result:
        assert "the right to create jobs.batch in namespace 'default'" in result()["status"]["message"]


def test_a_log_that_may_not_be_read_stops_nothing(scripted: Cluster) -> None:
    scripted.api.script(outcomes.fails(20), container="publisher")
    scripted.api.forbid("get", "pods/log")
    assert str(error_of(scripted)) == "failed to save model to localhost"


def test_what_an_abandoned_job_left_is_taken_away(scripted: Cluster) -> None:
    scripted.api.script(outcomes.runs(), container="executor")
    with scripted.working() as result:
        scripted.api.wait_for("pods", bool)
        uid = scripted.job()["metadata"]["uid"]
        executing.executor(scripted.store).forget(scripted.store, "default", uid)
        scripted.api.wait_for("jobs", lambda jobs: not jobs)
        result()


def test_a_job_that_was_deleted_stops(scripted: Cluster) -> None:
    scripted.api.script(outcomes.runs(), container="executor")
    held = claim(scripted.store, "default", "job", flow_run_id="run", attempt=1)
    steps.pull(scripted.store, held)
    manager.request_delete(scripted.store, "default", "job")
    with pytest.raises(JobStopped):
        steps.extract(scripted.store, held)
    assert scripted.jobs() == []


def test_the_supervisor_takes_away_what_a_lost_run_left(scripted: Cluster) -> None:
    """Its process is gone, its pod works still; then somebody deletes the ModelJob."""
    scripted.api.script(outcomes.runs(), container="executor")
    uid = scripted.job()["metadata"]["uid"]
    left = manifests.job(
        manifests.StepJob(uid, "extract", "default/job", "extraction"), scripted.store.settings
    )
    other = manifests.job(manifests.StepJob("f" * 32, "extract", "", "extraction"), scripted.store.settings)
    scripted.api.create("jobs", left)
    scripted.api.create("jobs", other)
    access.create_worker_token(scripted.store, uid, "extract")
    manager.request_delete(scripted.store, "default", "job")
    supervise_once(scripted.store, RecordingLauncher(), ModelJobs())
    with pytest.raises(NotFound):
        scripted.job()
    assert [each["metadata"]["name"] for each in scripted.jobs()] == [other["metadata"]["name"]]
    workers = select(tokens).where(tokens.c.role == "worker")
    assert scripted.store.db.read(lambda tx: tx.execute(workers).all()) == []


def test_the_supervisor_deletes_a_model_job_while_the_cluster_is_away(scripted: Cluster) -> None:
    scripted.api.fail("list", "jobs", 503)
    manager.request_delete(scripted.store, "default", "job")
    supervise_once(scripted.store, RecordingLauncher(), ModelJobs())
    with pytest.raises(NotFound):
        scripted.job()
