"""What users do to jobs: create, update, start, stop, delete, look at them."""

from __future__ import annotations

import contextlib
import logging
import secrets
import uuid
from functools import partial
from typing import Any

from sqlalchemy import Row, insert
from sqlalchemy.exc import IntegrityError

from catchment.errors import (
    AlreadyExists,
    CatchmentError,
    InvalidField,
    NotFound,
    Unreachable,
    WrongState,
)
from catchment.jobs import log as job_log
from catchment.jobs import namespaces, purge, queue, references, rows, views
from catchment.jobs.spec import Job, parse_job
from catchment.jobs.starting import FreeFolder, Start, begin_start, start_of, with_free_folder
from catchment.jobs.states import BUSY, JobState
from catchment.observe import trace
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import jobs

log = logging.getLogger(__name__)


def create_job(store: Store, namespace: str, body: object) -> None:
    """Store a new job as QUEUED.

    Raises:
        Refused: a field is wrong, or the id is taken.
        NotFound: the namespace does not exist.
    """
    job = parse_job(body)
    namespaces.get(store, namespace)
    references.check(store, namespace, job, known_checkpoints=())
    uid = uuid.uuid4().hex

    def step(tx: Transaction) -> None:
        namespaces.require(tx, namespace, for_update=True)
        if rows.find(tx, namespace, job.id) is not None:
            raise AlreadyExists(f"id: job {job.id!r} already exists in namespace {namespace!r}")
        tx.execute(
            insert(jobs).values(
                uid=uid,
                namespace=namespace,
                id=job.id,
                spec=_stored(job),
                state=JobState.QUEUED,
                created_at=tx.now,
                state_since=tx.now,
            )
        )

    try:
        with trace.span("create job", place=trace.of(uid), job_id=job.id, namespace=namespace):
            store.db.write(step)
    except IntegrityError as error:
        raise AlreadyExists(f"id: job {job.id!r} already exists in namespace {namespace!r}") from error


def update_job(store: Store, namespace: str, job_id: str, body: object) -> None:
    """Replace a job's specification; state and results stay.

    Raises:
        Refused: a field is wrong, the id differs, or the job is busy.
        NotFound: no such job or namespace.
    """
    job = parse_job(body)
    if job.id != job_id:
        raise InvalidField("id", f"is {job.id!r}, the path says {job_id!r}")
    known = store.db.read(lambda tx: purge.checkpoint_paths(tx, rows.require(tx, namespace, job_id).uid))
    references.check(store, namespace, job, known_checkpoints=tuple(known))

    def step(tx: Transaction) -> None:
        row = rows.require(tx, namespace, job_id, lock=True)
        if row.state in BUSY:
            raise WrongState(f"job {job_id!r} is {row.state}; it can be updated once that is over")
        seed = row.spec.get("seed") if job.seed is None else job.seed
        rows.change(tx, row.uid, spec={**_stored(job), "seed": seed})

    store.db.write(step)


def _stored(job: Job) -> dict[str, Any]:
    """The specification as it is kept and shown: defaults filled in, a seed drawn where none was given."""
    spec = job.model_dump(mode="json", by_alias=True, exclude_none=True)
    spec["parameters"] = dict(job.parameters)  # a null value is a bare key of the command line
    spec.setdefault("seed", secrets.randbits(48))
    return spec


def request_start(store: Store, namespace: str, job_id: str, *, fresh: bool = False) -> Start | None:
    """Move a job to STARTING; None when it runs already, or waits as QUEUED for a free place.

    After STOPPED or FAILED the run goes on from its last committed round, unless `fresh` is set or the
    specification now names another model source; after FINISHED a new run begins.

    Raises:
        NotFound: no such job.
        WrongState: it is being stopped or deleted, or runs and is to start over.
    """

    def step(tx: Transaction, free: FreeFolder | None) -> Start | None:
        row = rows.require(tx, namespace, job_id, lock=True)
        if row.state in (JobState.STOPPING, JobState.DELETING):
            raise WrongState(f"job {job_id!r} is {row.state}; it can be started once that is over")
        if fresh and row.state in (JobState.STARTING, JobState.RUNNING):
            raise WrongState(f"job {job_id!r} is {row.state}; stop it before it can start over")
        if row.state == JobState.RUNNING:
            return None
        if row.state == JobState.STARTING:
            return start_of(row)
        if reason := queue.not_its_turn(tx, store.settings, row):
            queue.wait(tx, row, reason, fresh=fresh)
            return None
        return begin_start(tx, row, free, fresh=fresh)

    return with_free_folder(store, step)


def start_queued(store: Store) -> list[Start]:
    """Start the jobs that have waited longest and for which there is a place now.

    A job that cannot begin, because its storage fails or its output leads astray, becomes FAILED with the
    reason and keeps nobody else waiting.
    """
    started: list[Start] = []
    for waiting in store.db.read(queue.waiting):
        try:
            start = with_free_folder(store, partial(_start_if_place, store, waiting.uid))
        except Unreachable as error:
            log.warning("job=%s/%s cannot begin yet: %s", waiting.namespace, waiting.id, error)
            continue
        except (CatchmentError, OSError) as error:
            _fail_queued(store, waiting.uid, str(error))
            continue
        if start is not None:
            started.append(start)
    return started


def _start_if_place(store: Store, uid: str, tx: Transaction, free: FreeFolder | None) -> Start | None:
    row = rows.by_uid(tx, uid, lock=True)
    if row.state != JobState.QUEUED or row.queued_at is None:
        return None
    reason = queue.no_place(tx, store.settings, row.namespace)
    if not reason:
        return begin_start(tx, row, free, fresh=row.queued_fresh)
    if reason != row.reason:
        rows.change(tx, row.uid, reason=reason)
    return None


def _fail_queued(store: Store, uid: str, reason: str) -> None:
    def step(tx: Transaction) -> None:
        row = rows.by_uid(tx, uid, lock=True)
        if row.state == JobState.QUEUED:
            rows.end(tx, uid, JobState.FAILED, f"the job cannot begin: {reason}")

    with contextlib.suppress(NotFound):  # it was deleted meanwhile
        store.db.write(step)


def launched(store: Store, uid: str, flow_run_id: str) -> None:
    """Remember which flow run does the job's work."""
    store.db.write(lambda tx: rows.change(tx, uid, flow_run_id=flow_run_id))


def request_stop(store: Store, namespace: str, job_id: str) -> None:
    """Ask a job to stop; sites are told in the same breath. STOPPED follows when its flow has ended.

    Raises:
        NotFound: no such job.
        WrongState: it has FINISHED, or is being deleted.
    """

    def step(tx: Transaction) -> None:
        row = rows.require(tx, namespace, job_id, lock=True)
        match row.state:
            case JobState.STOPPED | JobState.STOPPING:
                return
            case JobState.FINISHED | JobState.DELETING:
                raise WrongState(f"job {job_id!r} is {row.state} and cannot be stopped")
            case JobState.FAILED:
                rows.end(tx, row.uid, JobState.STOPPED, row.reason)
                job_log.write(tx, row.uid, job_log.Line("STOPPED", run=row.run))
            case JobState.QUEUED:
                rows.end(tx, row.uid, JobState.STOPPED)
                job_log.write(tx, row.uid, job_log.Line("STOPPED", run=row.run))
            case _:
                job_log.write(tx, row.uid, job_log.Line("stop was asked for", "warning", run=row.run))
                rows.change(
                    tx, row.uid, state=JobState.STOPPING, stop_requested=True, reason="stop was asked for"
                )
                rows.cancel_open_works(tx, row.uid, "the job was stopped")

    store.db.write(step)


def request_delete(store: Store, namespace: str, job_id: str) -> None:
    """Delete a job and all that it made, stopping it first. A job that is not there is fine."""

    def step(tx: Transaction) -> Row[Any] | None:
        row = rows.find(tx, namespace, job_id, lock=True)
        if row is None or row.state == JobState.DELETING:
            return None
        rows.change(tx, row.uid, state=JobState.DELETING, stop_requested=True, reason="delete was asked for")
        rows.cancel_open_works(tx, row.uid, "the job was deleted")
        return row

    row = store.db.write(step)
    if row is not None and row.state not in BUSY:
        purge.purge_job(store, row.uid)


def get_job(store: Store, namespace: str, job_id: str) -> dict[str, Any]:
    """The document's Job object, with namespace, times, status and checkpoints. Raises NotFound."""

    def step(tx: Transaction) -> dict[str, Any]:
        return views.one_view(tx, rows.require(tx, namespace, job_id))

    return store.db.read(step)


def list_jobs(
    store: Store, namespace: str, *, state: str | None = None, offset: int = 0, limit: int | None = None
) -> list[dict[str, Any]]:
    """A namespace's jobs, oldest first.

    Raises:
        NotFound: no such namespace.
        InvalidField: `state` is none of the document's words, or offset or limit are out of range.
    """
    if state is not None and state not in JobState.__members__:
        raise InvalidField("state", f"must be one of {', '.join(JobState.__members__)}, got {state!r}")
    if offset < 0 or (limit is not None and limit < 0):
        raise InvalidField("offset" if offset < 0 else "limit", "must not be negative")
    return store.db.read(lambda tx: views.list_view(tx, namespace, state, offset, limit))


def job_rounds(store: Store, namespace: str, job_id: str, *, run: int | None = None) -> list[dict[str, Any]]:
    """The report of each round of a run (default: the current one), oldest first. Raises NotFound."""

    def step(tx: Transaction) -> list[dict[str, Any]]:
        row = rows.require(tx, namespace, job_id)
        return views.rounds_view(tx, row.uid, row.run if run is None else run)

    return store.db.read(step)
