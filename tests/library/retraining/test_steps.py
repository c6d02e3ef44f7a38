"""The steps of a retraining over a real store: run twice they make one thing, and they end as they should."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from catchment.catalog import content
from catchment.catalog.audit import Actor
from catchment.errors import InvalidField, JobStopped, RetrainingFailed
from catchment.jobs import lifecycle
from catchment.model_jobs import manager as model_jobs
from catchment.retraining import converting, gate, metrics, naming, rolling, stopping, training
from catchment.retraining.outcome import steps_of
from catchment.retraining.plan import RetrainPlan, parse
from catchment.serving import deciding
from catchment.serving import manager as servings
from catchment.store import Store
from tests.conftest import wait_until
from tests.retraining_hands import PLAN, Hands, push_graph, version_of
from tests.thread_sites import job


@pytest.fixture(params=["postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """What differs between the kinds is tested where it does: locks, in test_alive."""
    return str(request.getfixturevalue("new_database")())


@pytest.fixture
def ready(store: Store, make_site: Callable[..., Any], tmp_path: Path) -> Store:
    """A store with a template, a graph and two sites."""
    make_site("a")
    make_site("b")
    push_graph(store, tmp_path)
    lifecycle.create_job(store, "default", job(id="template"))
    return store


@pytest.fixture
def hands(ready: Store) -> Iterator[Hands]:
    working = Hands(ready)
    yield working
    working.close()


def plan(**changes: Any) -> RetrainPlan:
    return parse({**PLAN, **changes}, "default")


def whole(store: Store, wanted: RetrainPlan, run: str, *, twice: bool = False) -> tuple[str, str, int | None]:
    """All steps of a run, as the flow takes them; ids of both versions, number of the rollout."""
    said: list[str] = []
    for _ in range(2 if twice else 1):
        training.begin(store, wanted, run)
        registered = training.await_registered(store, wanted, run, said.append)
        grafted = converting.graft(store, wanted, run, registered)
        made = converting.convert(store, wanted, run, grafted, said.append)
        passes = gate.judge(store, wanted, run, made).passes
        number = rolling.roll_out(store, wanted, run, made, said.append) if passes else None
    return registered, made, number


def test_each_step_is_done_once_however_often_it_is_run(ready: Store, hands: Hands):
    run = str(uuid4())
    registered, made, number = whole(ready, plan(), run, twice=True)
    name = naming.child(run)
    assert [row["id"] for row in lifecycle.list_jobs(ready, "default")] == ["template", name]
    assert lifecycle.get_job(ready, "default", name)["run"] == 1
    listed = model_jobs.list_page(ready, "default", label=None, start=0, limit=None)
    assert listed["metadata"]["totalItems"] == 1
    assert (version_of(ready, "net", "v1").id, version_of(ready, "net", "v1-onnx").id) == (registered, made)
    assert number == 1
    assert servings.rollouts(ready, "default", "net", start=0, limit=None)["metadata"]["totalItems"] == 1
    found = steps_of(ready, plan(), run)
    assert (found["version"], found["served"]) == ("default/net:v1", "default/net:v1-onnx")
    assert found["rollout"] == {
        "serving": "net",
        "number": 1,
        "phase": "Promoted",
        "message": "takes all the traffic",
    }


def test_the_graph_has_the_trained_weights_and_their_evaluation(ready: Store, hands: Hands):
    run = str(uuid4())
    _, made, _ = whole(ready, plan(), run)
    row = version_of(ready, "net", "v1-onnx")
    (file,) = ready.db.read(lambda tx: content.require_ready(tx, row))
    model = onnx.load(str(ready.blobs.local_path(file.digest)))
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    np.testing.assert_array_equal(arrays["w"], np.full((2, 3), 3, np.float32))
    assert row.config["metrics"] == {"federated": [{"name": "accuracy", "value": "0.03"}]}
    assert row.config["signature"]["inputs"][0]["name"] == "x"
    assert row.parent == version_of(ready, "net", "v1").id
    assert row.id == made


def test_the_next_run_begins_with_the_last_version_and_replaces_what_it_is_better_than(
    ready: Store, hands: Hands
):
    whole(ready, plan(), str(uuid4()))
    # Without a graph: that of the version which serves.
    again = plan(convert={"keep": ["b"]}, gate={"margin": 0.01})
    run = str(uuid4())
    _, _, number = whole(ready, again, run)
    assert number == 2
    child = lifecycle.get_job(ready, "default", naming.child(run))
    assert child["model_id"] == version_of(ready, "net", "v1").id
    assert child["seed"] != 7
    shown = servings.get(ready, "default", "net")
    assert shown["spec"]["predictors"][0]["graph"]["modelUri"] == "default/net:v2-onnx"
    assert [each["reference"] for each in shown["status"]["models"]] == ["default/net:v2-onnx"]
    # 0.06 serves; from the template's own model it is 0.03 once more.
    worse = plan(job={"template": "template", "begin_with": "specification"})
    run = str(uuid4())
    _, made, number = whole(ready, worse, run)
    assert number is None
    verdict = gate.judge(ready, worse, run, made)
    assert (verdict.passes, verdict.reason) == (False, "kept: accuracy 0.03 < 0.06 + 0")
    assert verdict.against == "default/net:v2-onnx"


def test_a_deleted_jobs_evaluation_is_known_by_its_version(ready: Store, hands: Hands):
    run = str(uuid4())
    whole(ready, plan(), run)
    lifecycle.request_delete(ready, "default", naming.child(run))
    found = ready.db.read(lambda tx: metrics.evaluated(tx, version_of(ready, "net", "v1-onnx"), plan().gate))
    assert found == pytest.approx(0.03)


def test_a_rollout_of_somebody_else_is_waited_for(ready: Store, hands: Hands):
    whole(ready, plan(), str(uuid4()))
    hands.hold_rollouts = True
    changed = {"name": "net", "model": "default/net:graph"}
    servings.update(ready, "default", "net", changed, Actor("anna"))
    said: list[str] = []
    run, wanted = str(uuid4()), plan(serving={"name": "net", "wait_s": 60})
    done: list[int] = []
    version = version_of(ready, "net", "v1-onnx")
    waits = threading.Thread(
        target=lambda: done.append(rolling.roll_out(ready, wanted, run, version.id, said.append))
    )
    waits.start()
    wait_until(lambda: said, timeout_s=20, what="a reason")
    assert "rollout 2 of serving 'net' is under way" in said[0]
    hands.hold_rollouts = False
    waits.join(60)
    assert done == [3]


def test_a_failed_job_fails_the_retraining_and_goes_on_when_it_is_run_again(ready: Store):
    run = str(uuid4())
    name = training.begin(ready, plan(), run)
    lifecycle.request_stop(ready, "default", name)
    with pytest.raises(JobStopped, match="is STOP"):
        training.await_registered(ready, plan(), run, lambda _: None)
    ready.db.write(lambda tx: training.rows.end(tx, _uid(ready, name), "FAILED", "the disk is on fire"))
    with pytest.raises(RetrainingFailed, match=f"job {name} failed: the disk is on fire"):
        training.await_registered(ready, plan(), run, lambda _: None)
    assert training.begin(ready, plan(), run) == name
    assert lifecycle.get_job(ready, "default", name)["status"]["state"] == "STARTING"
    quick = plan(job={"template": "template", "wait_s": 0.1})
    with pytest.raises(RetrainingFailed, match=r"took longer than 0\.1 s: STARTING"):
        training.await_registered(ready, quick, run, lambda _: None)
    lifecycle.request_delete(ready, "default", name)
    with pytest.raises((JobStopped, RetrainingFailed)):
        training.await_registered(ready, quick, run, lambda _: None)


def _uid(store: Store, job_id: str) -> str:
    return str(store.db.read(lambda tx: training.rows.require(tx, "default", job_id)).uid)


def test_a_stop_ends_what_the_run_has_started_and_nothing_else(ready: Store, hands: Hands):
    hands.hold_rollouts = True
    run, other = str(uuid4()), str(uuid4())
    training.begin(ready, plan(), other)
    training.await_registered(ready, plan(), other, lambda _: None)
    wanted = plan()
    ended: list[BaseException] = []

    def drives() -> None:
        try:
            whole(ready, wanted, run)
        except JobStopped as error:
            ended.append(error)

    driving = threading.Thread(target=drives)
    driving.start()
    wait_until(lambda: "rollout" in steps_of(ready, wanted, run), timeout_s=60, what="the rollout to be made")
    stopping.stop_children(ready, other)  # has ended, and stays so
    assert "Running" not in str(steps_of(ready, wanted, other))
    stopping.stop_children(ready, run)
    stopping.stop_children(ready, run)
    serving = ready.db.read(lambda tx: rolling.serving_rows.require(tx, "default", "net"))
    current = ready.db.read(lambda tx: rolling.serving_rows.rollout(tx, serving.uid, 1))
    assert current.stop_requested
    ready.db.write(
        lambda tx: rolling.serving_rows.end_rollout(tx, serving.uid, 1, "RolledBack", current.message)
    )
    driving.join(30)
    assert [str(each) for each in ended] == [
        f"rollout 1 of net was stopped: stop was asked for by {naming.child(run)}"
    ]
    assert lifecycle.get_job(ready, "default", naming.child(other))["status"]["state"] == "FINISHED"


def test_a_plan_that_cannot_work_is_refused_before_anything_is_made(ready: Store):
    for changes, field in (
        ({"job": {"template": "none"}}, "job.template"),
        ({"job": {"spec": {"runtime": "pytorch", "output": "o"}}}, "task_entry"),
    ):
        with pytest.raises(InvalidField) as found:
            training.check(ready, plan(**changes))
        assert found.value.field in (field, "model_path")
    for convert in ({}, {"graph": "default/net:none"}, {"graph": "net"}):
        with pytest.raises(InvalidField) as found:
            converting.check(ready, plan(convert=convert))
        assert found.value.field == "convert.graph"
    assert [row["id"] for row in lifecycle.list_jobs(ready, "default")] == ["template"]


def test_a_rollback_by_hand_ends_a_run_as_stopped(ready: Store, hands: Hands):
    hands.hold_rollouts = True
    run, wanted = str(uuid4()), plan()
    training.begin(ready, wanted, run)
    registered = training.await_registered(ready, wanted, run, lambda _: None)
    grafted = converting.graft(ready, wanted, run, registered)
    made = converting.convert(ready, wanted, run, grafted, lambda _: None)
    number = rolling._begin(ready, wanted, wanted.serving, run, made, lambda _: None)
    deciding.rollback(ready, "default", "net", None, Actor("anna"))
    serving = ready.db.read(lambda tx: rolling.serving_rows.require(tx, "default", "net"))
    told = ready.db.read(lambda tx: rolling.serving_rows.rollout(tx, serving.uid, number)).message
    ready.db.write(lambda tx: rolling.serving_rows.end_rollout(tx, serving.uid, number, "RolledBack", told))
    with pytest.raises(JobStopped, match="rollback was asked for by anna"):
        rolling.roll_out(ready, wanted, run, made, lambda _: None)
