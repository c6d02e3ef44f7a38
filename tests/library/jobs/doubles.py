"""Jobs in a wanted state, and a launcher that remembers what it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from catchment.errors import CatchmentError
from catchment.jobs import lifecycle, rows
from catchment.jobs.launcher import RunState
from catchment.jobs.starting import Start
from catchment.jobs.states import JobState
from catchment.store import Store
from tests.library.store.fresh import Clock
from tests.thread_sites import job


class RecordingLauncher:
    """A Prefect that does as it is told.

    Attributes:
        states: how each run is; a run that is not named is `waiting`.
        failure: raised by every call while it is set.
        calls: how many there were of any kind.
        meanwhile: called in the middle of every `launch` and `relaunch`.
    """

    def __init__(self) -> None:
        self.launched: list[Start] = []
        self.relaunched: list[tuple[Start, str]] = []
        self.cancelled: list[str] = []
        self.states: dict[str, RunState] = {}
        self.failure: CatchmentError | None = None
        self.meanwhile: Callable[[], object] = lambda: None
        self.relaunched_as: str | None = None
        self.calls = 0

    def launch(self, start: Start) -> str:
        self._call()
        self.launched.append(start)
        self.meanwhile()
        return f"run-{start.key}"

    def relaunch(self, start: Start, flow_run_id: str) -> str:
        self._call()
        self.relaunched.append((start, flow_run_id))
        self.meanwhile()
        return self.relaunched_as or flow_run_id

    def cancel(self, flow_run_id: str) -> None:
        self._call()
        self.cancelled.append(flow_run_id)

    def state(self, flow_run_id: str) -> RunState:
        self._call()
        return self.states.get(flow_run_id, "waiting")

    def _call(self) -> None:
        self.calls += 1
        if self.failure is not None:
            raise self.failure


def row(store: Store, job_id: str = "j") -> Any:
    """The job's row, None when there is none."""
    return store.db.read(lambda tx: rows.find(tx, "default", job_id))


def change(store: Store, job_id: str = "j", **values: Any) -> Any:
    """Set columns of a job's row; the row as it is then."""
    uid = row(store, job_id).uid
    store.db.write(lambda tx: rows.change(tx, uid, **values))
    return row(store, job_id)


def make(store: Store, state: JobState = JobState.QUEUED, job_id: str = "j", **values: Any) -> Any:
    """A job in a state, with what the state implies; its row."""
    lifecycle.create_job(store, "default", job(id=job_id))
    if state == JobState.QUEUED:
        return change(store, job_id, **values) if values else row(store, job_id)
    lifecycle.request_start(store, "default", job_id)
    implied: dict[str, Any] = {"state": state, "flow_run_id": f"flow-{job_id}"}
    if state in (JobState.RUNNING, JobState.STOPPING):
        implied |= {"lease_owner": f"flow-{job_id}:1", "lease_until": store.db.clock() + 20}
    if state in (JobState.STOPPING, JobState.DELETING):
        implied |= {"stop_requested": True}
    if state in (JobState.FINISHED, JobState.FAILED, JobState.STOPPED):
        implied |= {"finished_at": store.db.clock()}
    return change(store, job_id, **{**implied, **values})


def started(store: Store, job_id: str = "j") -> Start:
    make(store, job_id=job_id)
    start = lifecycle.request_start(store, "default", job_id)
    assert start is not None
    return start


def running_and_lost(store: Store, clock: Clock, **values: Any) -> Any:
    """A RUNNING job whose process has not renewed its lease."""
    make(store, JobState.RUNNING, **values)
    clock.forward(store.settings.job_lease_s + 0.1)
    return row(store)


def status(store: Store) -> tuple[str, str]:
    found = row(store)
    return found.state, found.reason
