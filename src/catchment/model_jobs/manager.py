"""What users do to ModelJobs: create, list, look at, delete, read their events."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from catchment.catalog.audit import Actor
from catchment.errors import AlreadyExists
from catchment.jobs import namespaces, purge
from catchment.model_jobs import rows, views
from catchment.model_jobs.spec import CONVERT, EXTRACT, NewModelJob, parse
from catchment.model_jobs.states import ENDED, Phase
from catchment.observe import trace
from catchment.runs.views import envelope
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_job_events, model_job_files, model_job_lines, model_jobs

FILTERS = {"extract": EXTRACT, "convert": CONVERT}


def create(store: Store, namespace: str, body: object, actor: Actor) -> str:
    """A new ModelJob, Pending until its flow run begins; its name.

    Raises:
        InvalidField: a field is wrong.
        NotFound: no such namespace.
        AlreadyExists: there is one of this name.
    """
    new = parse(body, namespace)

    def step(tx: Transaction) -> None:
        namespaces.require(tx, namespace, for_update=True)
        insert_new(tx, namespace, new, actor)

    try:
        store.db.write(step)
    except IntegrityError as error:
        raise AlreadyExists(f"ModelJob {new.name!r} exists already in namespace {namespace!r}") from error
    return new.name


def insert_new(tx: Transaction, namespace: str, new: NewModelJob, actor: Actor) -> str:
    """The row of a new ModelJob, with its first event; its uid."""
    uid = uuid.uuid4().hex
    values = {
        "uid": uid,
        "namespace": namespace,
        "name": new.name,
        "labels": new.labels,
        "annotations": new.annotations,
        "spec": new.spec.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True),
        "phase": Phase.PENDING,
        "message": "waiting for a runner",
        "created_by": {"login": actor.login, "claimed": actor.claimed},
        "created_at": tx.now,
        "phase_since": tx.now,
        "steps": {},
    }
    with trace.span("create ModelJob", place=trace.of(uid), job_id=new.name, namespace=namespace):
        tx.execute(insert(model_jobs).values(**values))
    rows.event(tx, uid, "Pending", f"created by {actor.login}; waiting for a runner")
    if new.spec.env or new.spec.init_container:
        rows.event(tx, uid, "Ignored", "env and initContainer are kept and not used", "Warning")
    return uid


def get(store: Store, namespace: str, name: str) -> dict[str, Any]:
    """One ModelJob. Raises NotFound."""
    return store.db.read(lambda tx: views.job_view(rows.require(tx, namespace, name)))


def list_page(
    store: Store, namespace: str, *, label: str | None, start: int, limit: int | None
) -> dict[str, Any]:
    """A page of a namespace's ModelJobs, by name; `label` keeps those that have it with "true"."""
    wanted = FILTERS.get(label or "", label)

    def step(tx: Transaction) -> dict[str, Any]:
        mine: ColumnElement[bool] = model_jobs.c.namespace == namespace
        ordered = select(model_jobs).where(mine).order_by(model_jobs.c.name)
        if wanted is None:
            total = tx.execute(select(func.count()).select_from(model_jobs).where(mine)).scalar_one()
            found = tx.execute(ordered.offset(start).limit(limit)).all()
            return envelope(int(total), [views.job_view(row) for row in found])
        kept = [row for row in tx.execute(ordered) if row.labels.get(wanted) == "true"]
        page = kept[start:] if limit is None else kept[start : start + limit]
        return envelope(len(kept), [views.job_view(row) for row in page])

    return store.db.read(step)


def events(store: Store, namespace: str, name: str, *, start: int, limit: int | None) -> dict[str, Any]:
    """A page of a ModelJob's events, oldest first. Raises NotFound."""

    def step(tx: Transaction) -> dict[str, Any]:
        job = rows.require(tx, namespace, name)
        mine = select(model_job_events).where(model_job_events.c.job_uid == job.uid)
        page = tx.execute(mine.order_by(model_job_events.c.number).offset(start).limit(limit)).all()
        return envelope(rows.count_events(tx, job.uid), [views.event_view(job, row) for row in page])

    return store.db.read(step)


def request_delete(store: Store, namespace: str, name: str) -> None:
    """Delete a ModelJob, stopping it first; what it has pushed stays. Raises NotFound."""

    def step(tx: Transaction) -> Row[Any]:
        row = rows.require(tx, namespace, name, lock=True)
        if row.phase != Phase.DELETING:
            message = "delete was asked for"
            rows.change(tx, row.uid, phase=Phase.DELETING, message=message, stop_requested=True)
            rows.event(tx, row.uid, "Deleting", message)
        return row

    row = store.db.write(step)
    if row.phase in ENDED:
        purge_model_job(store, row.uid)


def request_stop_of_run(store: Store, flow_run_id: str) -> None:
    """Stop the ModelJob of a flow run that was cancelled in Prefect; nothing when there is none."""

    def step(tx: Transaction) -> None:
        mine = select(model_jobs).where(model_jobs.c.flow_run_id == flow_run_id)
        row = tx.execute(mine.with_for_update()).first()
        if row is not None and row.phase in (Phase.PENDING, Phase.RUNNING):
            rows.change(tx, row.uid, stop_requested=True, message="stop was asked for")
            rows.event(tx, row.uid, "Stopping", "stop was asked for", "Warning")

    store.db.write(step)


def purge_model_job(store: Store, uid: str) -> None:
    """Remove all that a ModelJob made and has not pushed. Safe to repeat."""
    shutil.rmtree(work_folder(store, uid), ignore_errors=True)

    def step(tx: Transaction) -> set[str]:
        mine = model_job_files.c.job_uid == uid
        digests = set(tx.execute(select(model_job_files.c.digest).where(mine)).scalars())
        for table in (model_job_files, model_job_events, model_job_lines):
            tx.execute(delete(table).where(table.c.job_uid == uid))
        tx.execute(delete(model_jobs).where(model_jobs.c.uid == uid))
        tx.notify(rows.topic(uid))
        return digests

    purge.delete_unreferenced(store, store.db.write(step))


def work_folder(store: Store, uid: str) -> Path:
    """Where a ModelJob's files lie while it works; on the file system of the blobs."""
    return store.blobs.staging_folder / f"modeljob-{uid}"


def require_one(store: Store, namespace: str, name: str) -> Row[Any]:
    """The row of a ModelJob. Raises NotFound."""
    return store.db.read(lambda tx: rows.require(tx, namespace, name))
