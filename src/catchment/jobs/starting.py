"""The start of a resting job: which run it begins or goes on with, and in which folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Row

from catchment.jobs import log as job_log
from catchment.jobs import rows
from catchment.jobs.spec import Job
from catchment.jobs.states import JobState
from catchment.store import Store
from catchment.store.database import Transaction

T = TypeVar("T")
DEPLOYMENT = "federate/federate"
"""The flow that drives jobs, as Prefect names it."""
FINISHED_PROGRESS = 100
"""Only a run that has FINISHED shows it, also while the job waits in the queue to run again."""


@dataclass(frozen=True)
class Start:
    """One start of a job, for whoever makes the flow run.

    Attributes:
        key: names this start; making a flow run twice with one key makes one run.
        run: number of the training run that it begins or continues.
        resume: True when committed rounds of the run are kept.
    """

    uid: str
    namespace: str
    job_id: str
    key: str
    run: int
    resume: bool

    @property
    def deployment(self) -> str:
        """As jobs.launcher.Launchable says."""
        return DEPLOYMENT

    @property
    def run_name(self) -> str:
        """As jobs.launcher.Launchable says."""
        return self.job_id

    @property
    def parameters(self) -> dict[str, str]:
        """As jobs.launcher.Launchable says."""
        return {"namespace": self.namespace, "job_id": self.job_id}


@dataclass(frozen=True)
class FreeFolder:
    """A folder that was free for the run that follows `last_run` of a job with this output."""

    last_run: int
    output: str
    run: int
    folder: str

    def fits(self, row: Row[Any], job: Job) -> bool:
        """Whether the job still is as it was when the folder was looked for."""
        return (row.run, job.output) == (self.last_run, self.output)


class _FolderNeededError(Exception):
    """The start begins a new run, whose folder must be found first."""

    def __init__(self, row: Row[Any]) -> None:
        super().__init__()
        self.row = row


def with_free_folder(store: Store, step: Callable[[Transaction, FreeFolder | None], T]) -> T:
    """Run a step that may begin a start. The new run's folder is looked for between its tries.

    The storage may be slow, or hang: nobody must wait for it with a lock that other jobs need.
    """
    free: FreeFolder | None = None
    while True:
        try:
            return store.db.write(lambda tx, free=free: step(tx, free))  # type: ignore[misc]
        except _FolderNeededError as needed:
            free = _free_folder(store, needed.row)


def begin_start(tx: Transaction, row: Row[Any], free: FreeFolder | None, *, fresh: bool = False) -> Start:
    """Move a resting job, whose row is locked, to STARTING; in a step of `with_free_folder`."""
    job = rows.spec_of(row)
    source = list(job.model_source)
    ended = row.state == JobState.FINISHED or row.progress == FINISHED_PROGRESS
    fresh = fresh or row.run == 0 or ended or source != row.run_source
    values: dict[str, Any] = {}
    if fresh:
        if free is None or not free.fits(row, job):
            raise _FolderNeededError(row)
        values = {
            "run": free.run,
            "run_source": source,
            "run_folders": [*row.run_folders, free.folder],
            "initial_weights": None,
            "progress": 0,
        }
    rows.change(
        tx,
        row.uid,
        state=JobState.STARTING,
        reason="",
        starts=row.starts + 1,
        resumes=0,
        stop_requested=False,
        flow_run_id=None,
        queued_at=None,
        queued_fresh=False,
        waits_for_sites=False,
        started_at=tx.now,
        finished_at=None,
        **values,
    )
    started = rows.by_uid(tx, row.uid)
    words = f"started: run {started.run}"
    if not fresh:
        words += f" goes on, {started.progress} % are done" if started.progress else " goes on"
    job_log.write(tx, row.uid, job_log.Line(words, run=started.run))
    return start_of(started)


def _free_folder(store: Store, row: Row[Any]) -> FreeFolder:
    """The first run number above the last whose folder is free."""
    job, run = rows.spec_of(row), row.run + 1
    while store.files.is_folder(row.namespace, folder := f"{job.output.rstrip('/')}/{job.id}_V{run}"):
        run += 1
    return FreeFolder(row.run, job.output, run, folder)


def start_of(row: Row[Any]) -> Start:
    """The start that a STARTING or RUNNING job is in."""
    return Start(
        uid=row.uid,
        namespace=row.namespace,
        job_id=row.id,
        key=f"{row.uid}-{row.starts}",
        run=row.run,
        resume=row.progress > 0,
    )
