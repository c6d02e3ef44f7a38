"""The supervisor: one job's trouble is no other's, and two supervisors do not get into each other's way."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from catchment.jobs import lifecycle, supervise
from catchment.jobs.states import JobState
from catchment.jobs.supervise import supervise_once
from catchment.store import Store, open_store
from tests.library.jobs.doubles import RecordingLauncher, change, make, row, running_and_lost, started
from tests.library.store.fresh import BOTH, Clock
from tests.thread_sites import job

S = JobState


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
