"""The supervisor and jobs that are to start: one run each, in time, or a reason."""

from __future__ import annotations

import pytest

from catchment.errors import SetupError, Unreachable
from catchment.jobs import lifecycle, supervise
from catchment.jobs.supervise import supervise_once
from catchment.rounds.claim import claim_job, renew
from catchment.runs import leases
from catchment.store import Store
from tests.library.jobs.doubles import RecordingLauncher, change, row
from tests.library.jobs.supervised import LOOK, S, started, status
from tests.library.store.fresh import BOTH, Clock


@BOTH
def test_a_started_job_gets_its_flow_run(store: Store, launcher: RecordingLauncher) -> None:
    start = started(store)
    supervise_once(store, launcher)
    assert launcher.launched == [start]
    assert row(store).flow_run_id == f"run-{start.key}"
    supervise_once(store, launcher)
    assert len(launcher.launched) == 1


def test_launching_twice_is_one_run(store: Store, launcher: RecordingLauncher) -> None:
    start = started(store)
    supervise.launch(store, launcher, start)
    supervise.launch(store, launcher, start)
    assert {each.key for each in launcher.launched} == {start.key}
    assert row(store).flow_run_id == f"run-{start.key}"
    assert launcher.cancelled == []


def test_while_prefect_is_away_the_job_says_so_and_fails_in_the_end(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    started(store)
    launcher.failure = Unreachable("Prefect does not answer at http://127.0.0.1:4200")
    supervise_once(store, launcher)
    assert status(store) == (
        "STARTING",
        "the job waits for Prefect: Prefect does not answer at http://127.0.0.1:4200",
    )
    clock.forward(store.settings.start_timeout_s)
    supervise_once(store, launcher)
    assert row(store).state == S.STARTING
    clock.forward(0.1)
    supervise_once(store, launcher)
    assert row(store).state == S.FAILED
    assert "does not answer" in row(store).reason
    assert "too long" in row(store).reason
    assert row(store).finished_at == clock()


def test_when_prefect_is_back_the_job_goes_on(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    started(store)
    launcher.failure = Unreachable("Prefect does not answer")
    supervise_once(store, launcher)
    launcher.failure = None
    clock.forward(60)
    supervise_once(store, launcher)
    assert status(store) == ("STARTING", "")
    assert row(store).flow_run_id is not None


def test_what_waiting_cannot_cure_fails_at_once(store: Store, launcher: RecordingLauncher) -> None:
    started(store)
    launcher.failure = SetupError("Prefect has no deployment federate/federate")
    supervise_once(store, launcher)
    assert status(store) == ("FAILED", "Prefect has no deployment federate/federate")


def test_a_run_that_no_runner_takes_fails_its_job_and_is_cancelled(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    started(store)
    supervise_once(store, launcher)
    run = row(store).flow_run_id
    for state in ("waiting", "pending"):
        launcher.states[run] = state
        clock.forward(LOOK)
        supervise_once(store, launcher)
        assert row(store).state == S.STARTING
    clock.forward(store.settings.start_timeout_s)
    supervise_once(store, launcher)
    assert row(store).state == S.FAILED
    assert "no flow runner took the job within 120 s" in row(store).reason
    assert launcher.cancelled == [run]


def test_a_run_that_begins_gets_time_to_claim_its_job(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    """Prefect says RUNNING some time before the flow's process has claimed the job."""
    started(store)
    supervise_once(store, launcher)
    run = row(store).flow_run_id
    clock.forward(30)
    launcher.states[run] = "running"
    for _ in range(3):
        supervise_once(store, launcher)
        clock.forward(leases.BEGIN_S / 4)
    assert launcher.relaunched == []
    claim = claim_job(store, "default", "j", flow_run_id=run, attempt=1)
    assert row(store).state == S.RUNNING
    clock.forward(leases.BEGIN_S)
    assert renew(store, claim)
    supervise_once(store, launcher)
    assert (launcher.relaunched, row(store).state) == ([], S.RUNNING)


def test_a_process_that_died_before_it_claimed_is_replaced(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    started(store)
    supervise_once(store, launcher)
    run = row(store).flow_run_id
    launcher.states[run] = "running"
    clock.forward(LOOK)
    supervise_once(store, launcher)
    clock.forward(leases.BEGIN_S + 0.1)
    supervise_once(store, launcher)
    assert [flow_run_id for _, flow_run_id in launcher.relaunched] == [run]
    assert (row(store).state, row(store).resumes, row(store).lease_owner) == (S.STARTING, 1, None)


@pytest.mark.parametrize("operation", ["stop", "delete"])
def test_a_job_whose_run_only_begins_ends_without_delay(
    store: Store, launcher: RecordingLauncher, clock: Clock, operation: str
) -> None:
    started(store)
    supervise_once(store, launcher)
    launcher.states[row(store).flow_run_id] = "running"
    clock.forward(LOOK)
    supervise_once(store, launcher)
    assert row(store).lease_owner == supervise.GRACE
    if operation == "stop":
        lifecycle.request_stop(store, "default", "j")
        supervise_once(store, launcher)
        assert row(store).state == S.STOPPED
    else:
        lifecycle.request_delete(store, "default", "j")
        supervise_once(store, launcher)
        assert row(store) is None


@pytest.mark.parametrize("meanwhile", ["stop", "delete", "stop and start"])
def test_a_run_made_for_a_job_that_was_stopped_meanwhile_is_cancelled(
    store: Store, launcher: RecordingLauncher, meanwhile: str
) -> None:
    """Otherwise the run would start the job again, as a run of a resting job does."""
    start = started(store)

    def act() -> None:
        launcher.meanwhile = lambda: None
        if meanwhile == "delete":
            lifecycle.request_delete(store, "default", "j")
            change(store, supervised_until=0.0)
            supervise_once(store, launcher)
            return
        lifecycle.request_stop(store, "default", "j")
        supervise_once(store, launcher)
        assert row(store).state == S.STOPPED
        if "start" in meanwhile:
            lifecycle.request_start(store, "default", "j")

    launcher.meanwhile = act
    supervise.launch(store, launcher, start)
    assert launcher.cancelled == [f"run-{start.key}"]
    if meanwhile == "stop":
        assert (row(store).state, row(store).flow_run_id) == (S.STOPPED, None)
    elif meanwhile == "delete":
        assert row(store) is None
    else:
        assert (row(store).state, row(store).flow_run_id) == (S.STARTING, None)


def test_a_run_that_claimed_before_it_was_written_down_is_fine(
    store: Store, launcher: RecordingLauncher
) -> None:
    start = started(store)
    launcher.meanwhile = lambda: claim_job(store, "default", "j", flow_run_id=f"run-{start.key}", attempt=1)
    supervise.launch(store, launcher, start)
    assert launcher.cancelled == []
    assert (row(store).state, row(store).flow_run_id) == (S.RUNNING, f"run-{start.key}")
