"""The supervisor and jobs whose process lives, is lost, or comes back."""

from __future__ import annotations

from typing import get_args

import pytest

from catchment.errors import Unreachable
from catchment.jobs import lifecycle
from catchment.jobs.launcher import RunState
from catchment.jobs.supervise import supervise_once
from catchment.store import Store
from tests.library.jobs.doubles import RecordingLauncher, change, make, row
from tests.library.jobs.supervised import LOOK, S, running_and_lost, status
from tests.library.store.fresh import Clock


def test_a_job_whose_process_lives_is_left_alone(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    make(store, S.RUNNING)
    launcher.failure = AssertionError("nobody should ask")  # type: ignore[assignment]
    clock.forward(store.settings.job_lease_s - 0.1)
    supervise_once(store, launcher)
    assert row(store).state == S.RUNNING


AFTER_LOSS: dict[str, S] = {
    "waiting": S.RUNNING,
    "pending": S.RUNNING,
    "running": S.STARTING,
    "paused": S.STARTING,
    "cancelling": S.STOPPED,
    "cancelled": S.STOPPED,
    "completed": S.STARTING,
    "failed": S.STARTING,
    "crashed": S.STARTING,
    "gone": S.STARTING,
}


def test_the_table_knows_every_state() -> None:
    assert set(AFTER_LOSS) == set(get_args(RunState))


@pytest.mark.parametrize(("state", "after"), AFTER_LOSS.items())
def test_a_lost_process(
    store: Store, launcher: RecordingLauncher, clock: Clock, state: RunState, after: S
) -> None:
    lost = running_and_lost(store, clock, progress=33)
    launcher.states["flow-j"] = state
    supervise_once(store, launcher)
    now = row(store)
    assert now.state == after
    if after == S.STARTING:
        ((start, run),) = launcher.relaunched
        assert (start.key, start.resume, run) == (f"{lost.uid}-1", True, "flow-j")
        assert "goes on after its last committed round" in now.reason
        assert (now.resumes, now.run, now.lease_owner) == (1, 1, None)
    else:
        assert launcher.relaunched == []
    if after == S.STOPPED:
        assert now.reason == "the flow run was cancelled in Prefect"
    supervise_once(store, launcher)
    assert len(launcher.relaunched) <= 1, "a run that was just restarted is left alone"


def test_a_resumed_job_may_have_another_run(store: Store, launcher: RecordingLauncher, clock: Clock) -> None:
    running_and_lost(store, clock)
    launcher.states["flow-j"] = "gone"
    launcher.relaunched_as = "flow-new"
    supervise_once(store, launcher)
    assert (row(store).state, row(store).flow_run_id) == (S.STARTING, "flow-new")


def test_a_job_that_gets_nowhere_fails_in_the_end(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    make(store, S.RUNNING)
    launcher.states["flow-j"] = "crashed"
    for _ in range(store.settings.max_resumes):
        clock.forward(store.settings.job_lease_s + LOOK)
        supervise_once(store, launcher)
        assert row(store).state == S.STARTING
    clock.forward(LOOK)
    supervise_once(store, launcher)
    assert len(launcher.relaunched) == store.settings.max_resumes == 5
    assert status(store) == (
        "FAILED",
        "the flow process was lost 6 times without a round in between; the flow run is crashed",
    )
    assert launcher.cancelled == ["flow-j"]


def test_a_lost_job_whose_run_nobody_takes_again_fails_in_the_end(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    running_and_lost(store, clock)
    supervise_once(store, launcher)
    assert row(store).state == S.RUNNING
    clock.forward(store.settings.start_timeout_s)
    supervise_once(store, launcher)
    assert row(store).state == S.FAILED
    assert "no flow runner" in row(store).reason


def test_a_lost_job_waits_for_a_prefect_that_is_away(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    running_and_lost(store, clock)
    launcher.failure = Unreachable("Prefect does not answer")
    supervise_once(store, launcher)
    assert (row(store).state, row(store).resumes) == (S.RUNNING, 0)
    launcher.failure = None
    launcher.states["flow-j"] = "crashed"
    supervise_once(store, launcher)
    assert row(store).state == S.STARTING


def test_a_process_that_comes_back_meanwhile_keeps_its_job(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    running_and_lost(store, clock)
    launcher.states["flow-j"] = "running"
    launcher.meanwhile = lambda: change(store, lease_until=clock() + 20)
    supervise_once(store, launcher)
    assert (row(store).state, row(store).resumes) == (S.RUNNING, 0)
    assert launcher.cancelled == []


def test_a_lost_job_that_is_stopped_while_it_is_resumed_stays_stopped(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    running_and_lost(store, clock)
    launcher.states["flow-j"] = "gone"
    launcher.relaunched_as = "flow-new"
    launcher.meanwhile = lambda: lifecycle.request_stop(store, "default", "j")
    supervise_once(store, launcher)
    assert row(store).state == S.STOPPING
    assert launcher.cancelled == ["flow-new"]
