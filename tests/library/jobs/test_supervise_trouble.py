"""The supervisor, whatever breaks: trouble stays where it is, and two of them do no harm."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catchment.errors import Unreachable
from catchment.jobs import lifecycle, supervise
from catchment.jobs.launcher import Patient, RunState
from catchment.jobs.supervise import supervise_once
from catchment.store import Store, open_store
from tests.library.jobs.doubles import RecordingLauncher, change, make, row
from tests.library.jobs.supervised import S, running_and_lost, started
from tests.library.store.fresh import BOTH, Clock
from tests.thread_sites import job


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
