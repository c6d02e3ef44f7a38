"""The supervisor: what it makes of every job, in every state of its flow run, whatever breaks."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from catchment.errors import SetupError, Unreachable
from catchment.jobs import lifecycle, rows, supervise
from catchment.jobs.launcher import Patient, RunState
from catchment.jobs.starting import Start
from catchment.jobs.states import JobState
from catchment.jobs.supervise import supervise_once
from catchment.rounds.claim import claim_job, renew
from catchment.store import Store, open_store
from tests.library.jobs.doubles import RecordingLauncher, change, make, row
from tests.library.store.fresh import BOTH, Clock
from tests.thread_sites import job

S = JobState
LOOK = supervise.LOOK_AT_RUN_S + 0.1


@pytest.fixture
def launcher() -> RecordingLauncher:
    return RecordingLauncher()


def started(store: Store, job_id: str = "j") -> Start:
    make(store, job_id=job_id)
    start = lifecycle.request_start(store, "default", job_id)
    assert start is not None
    return start


def running_and_lost(store: Store, clock: Clock, **values: Any) -> Any:
    """A RUNNING job whose process has not renewed its lease."""
    make(store, S.RUNNING, **values)
    clock.forward(store.settings.job_lease_s + 0.1)
    return row(store)


def status(store: Store) -> tuple[str, str]:
    found = row(store)
    return found.state, found.reason


# Starting


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
        clock.forward(rows.BEGIN_S / 4)
    assert launcher.relaunched == []
    claim = claim_job(store, "default", "j", flow_run_id=run, attempt=1)
    assert row(store).state == S.RUNNING
    clock.forward(rows.BEGIN_S)
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
    clock.forward(rows.BEGIN_S + 0.1)
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


# Running


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


# Stopping and deleting


def test_a_stop_without_a_living_flow_is_a_stop_at_once(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    running_and_lost(store, clock)
    lifecycle.request_stop(store, "default", "j")
    supervise_once(store, launcher)
    assert status(store) == ("STOPPED", "")
    assert launcher.cancelled == ["flow-j"]


def test_a_living_flow_gets_time_to_stop_itself(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    make(store, S.RUNNING)
    lifecycle.request_stop(store, "default", "j")
    supervise_once(store, launcher)
    assert launcher.cancelled == []
    clock.forward(supervise.STOP_GRACE_S + 0.1)
    supervise_once(store, launcher)
    assert launcher.cancelled == ["flow-j"], "the second line"
    assert row(store).state == S.STOPPING, "its process may still write"
    clock.forward(store.settings.job_lease_s)
    supervise_once(store, launcher)
    assert row(store).state == S.STOPPED


def test_a_stop_needs_no_prefect(store: Store, launcher: RecordingLauncher, clock: Clock) -> None:
    running_and_lost(store, clock)
    lifecycle.request_stop(store, "default", "j")
    launcher.failure = Unreachable("Prefect does not answer")
    supervise_once(store, launcher)
    assert row(store).state == S.STOPPED


@BOTH
def test_a_deleted_job_is_removed_once_nobody_writes_any_more(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    make(store, S.RUNNING)
    store.files.write_bytes("default", "out/j_V1/metrics.json", b"{}")
    lifecycle.request_delete(store, "default", "j")
    clock.forward(supervise.STOP_GRACE_S + 0.1)
    supervise_once(store, launcher)
    assert row(store).state == S.DELETING
    clock.forward(store.settings.job_lease_s)
    supervise_once(store, launcher)
    assert row(store) is None
    assert not store.files.is_folder("default", "out/j_V1")
    assert store.files.is_file("default", "models/init.safetensors")
    assert set(launcher.cancelled) == {"flow-j"}


# Trouble stays where it is


def test_one_jobs_trouble_does_not_keep_it_from_the_others(
    store: Store, launcher: RecordingLauncher, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(store, S.DELETING, "broken", run_folders=["out/broken"])
    clock.forward(1)
    make(store, S.DELETING, "escaping", run_folders=["../../escaping"])
    clock.forward(1)
    make(store, S.STOPPING, "fine")
    clock.forward(store.settings.job_lease_s + 1)
    store.files.write_bytes("default", "out/broken/x", b"x")
    remove = shutil.rmtree

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    supervise_once(store, launcher)
    assert row(store, "fine").state == S.STOPPED
    assert row(store, "broken").state == S.DELETING
    assert row(store, "broken").supervised_until == 0.0
    monkeypatch.setattr(shutil, "rmtree", remove)
    supervise_once(store, launcher)
    assert row(store, "broken") is None


def test_a_queue_that_cannot_move_does_not_keep_busy_jobs_from_being_looked_after(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    make(store, job_id="poisoned", queued_at=clock())
    (store.settings.home / "namespaces" / "default" / "out").symlink_to("/")
    make_without_files(store, clock)
    supervise_once(store, launcher)
    assert row(store).state == S.STOPPED


def make_without_files(store: Store, clock: Clock) -> None:
    """A STOPPING job whose process is gone."""
    lifecycle.create_job(store, "default", job(output="elsewhere"))
    change(store, state=S.STOPPING, run=1, flow_run_id="flow-j")


class Hanging(RecordingLauncher):
    """A Prefect that takes requests for some runs and never answers, until the caller's patience is over."""

    def __init__(self, hangs_for: Callable[[str], bool]) -> None:
        super().__init__()
        self.hangs_for = hangs_for
        self.hung = 0
        self.answers = threading.Event()

    def state(self, flow_run_id: str) -> RunState:
        if self.hangs_for(flow_run_id):
            self.hung += 1
            self.answers.wait(20)
            raise Unreachable("Prefect does not answer: timed out")
        return super().state(flow_run_id)

    def relaunch(self, start: lifecycle.Start, flow_run_id: str) -> str:
        relaunched = super().relaunch(start, flow_run_id)
        if len(self.relaunched) == 3:
            self.answers.set()
        return relaunched


def lost_jobs(store: Store, clock: Clock, number: int) -> None:
    for index in range(number):
        make(store, S.RUNNING, f"j{index}")
        clock.forward(0.1)
    clock.forward(store.settings.job_lease_s)


@BOTH
def test_a_job_for_which_prefect_hangs_holds_up_no_other(store: Store, clock: Clock) -> None:
    lost_jobs(store, clock, 4)
    launcher = Hanging(lambda run: run == "flow-j0")
    launcher.states = {f"flow-j{index}": "crashed" for index in range(4)}
    supervise_once(store, launcher)
    # The first one hung until the others, which come after it, had been rescued.
    assert launcher.answers.is_set()
    assert [row(store, f"j{index}").state for index in range(4)] == ["RUNNING", *["STARTING"] * 3]


def test_a_prefect_that_hangs_for_all_costs_a_look_its_patience_once(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "Patient", lambda launcher: Patient(launcher, patience_s=0.05))
    lost_jobs(store, clock, 3 * supervise.AT_A_TIME)
    make(store, S.STOPPING, "last", lease_until=0.0)
    launcher = Hanging(lambda run: True)
    timer = threading.Timer(0.2, launcher.answers.set)
    timer.start()
    supervise_once(store, launcher)
    timer.join()
    assert launcher.hung <= supervise.AT_A_TIME, "those that came later were not tried"
    assert row(store, "j0").state == S.RUNNING
    assert row(store, "last").state == S.STOPPED, "a stop needs no Prefect"


def test_a_prefect_that_refuses_at_once_is_asked_for_every_job(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    lost_jobs(store, clock, 20)
    launcher.failure = Unreachable("connection refused")
    supervise_once(store, launcher)
    assert launcher.calls == 20


@BOTH
def test_two_supervisors_look_after_a_job_once(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    running_and_lost(store, clock)
    launcher.states["flow-j"] = "crashed"
    other = open_store(store.settings)
    other.db.clock = clock
    both = threading.Barrier(2, timeout=10)

    def look(mine: Store) -> None:
        read = mine.db.read

        def together(step: Any) -> Any:
            found = read(step)
            both.wait()
            return found

        mine.db.read = together  # type: ignore[method-assign]
        supervise_once(mine, launcher)

    threads = [threading.Thread(target=look, args=(each,)) for each in (store, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    del store.db.read
    other.close()
    assert len(launcher.relaunched) == 1
    assert row(store).resumes == 1


def test_a_second_look_that_began_with_the_first_finds_it_done(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    """The other supervisor read the job before the first one moved it, and comes when it is free again."""
    running_and_lost(store, clock)
    launcher.states["flow-j"] = "crashed"
    read = store.db.read

    def late(step: Any) -> Any:
        found = read(step)
        store.db.read = read  # type: ignore[method-assign]
        supervise_once(store, launcher)
        return found

    store.db.read = late  # type: ignore[method-assign]
    supervise_once(store, launcher)
    assert len(launcher.relaunched) == 1
    assert row(store).resumes == 1


def test_the_claim_of_a_supervisor_that_died_lapses(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    started(store)
    change(store, supervised_until=clock() + supervise.CLAIM_S)
    supervise_once(store, launcher)
    assert launcher.launched == []
    clock.forward(supervise.CLAIM_S)
    supervise_once(store, launcher)
    assert len(launcher.launched) == 1


def test_resting_jobs_are_not_looked_at(store: Store, launcher: RecordingLauncher, clock: Clock) -> None:
    for state in (S.QUEUED, S.FINISHED, S.FAILED, S.STOPPED):
        make(store, state, state.lower())
    clock.forward(10_000)
    launcher.failure = AssertionError("nobody should ask")  # type: ignore[assignment]
    supervise_once(store, launcher)
