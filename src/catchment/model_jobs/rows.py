"""Rows of ModelJobs: finding and moving them, their events and lines."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Row, delete, func, insert, select, update

from catchment.errors import NotFound
from catchment.model_jobs.spec import Spec
from catchment.model_jobs.states import Phase
from catchment.store.database import Transaction
from catchment.store.schema import model_job_events, model_job_lines, model_jobs

MAX_LINES = 20_000
LINE_CHARACTERS = 4_000


def topic(uid: str) -> str:
    """What a ModelJob's flow and its watchers listen to."""
    return f"modeljob:{uid}"


def delivered(step: str) -> str:
    """Where among the steps an outcome waits that a pod has brought and no flow has taken yet."""
    return f"@{step}"


def find(tx: Transaction, namespace: str, name: str, *, lock: bool = False) -> Row[Any] | None:
    """The job's row; with `lock` nobody else moves it until the transaction ends."""
    statement = select(model_jobs).where(model_jobs.c.namespace == namespace, model_jobs.c.name == name)
    return tx.execute(statement.with_for_update() if lock else statement).first()


def require(tx: Transaction, namespace: str, name: str, *, lock: bool = False) -> Row[Any]:
    """`find`, or NotFound."""
    row = find(tx, namespace, name, lock=lock)
    if row is None:
        raise NotFound(f"ModelJob {name!r} does not exist in namespace {namespace!r}")
    return row


def by_uid(tx: Transaction, uid: str, *, lock: bool = False) -> Row[Any]:
    """The job's row by its own identity, or NotFound when it was deleted."""
    statement = select(model_jobs).where(model_jobs.c.uid == uid)
    row = tx.execute(statement.with_for_update() if lock else statement).first()
    if row is None:
        raise NotFound("the ModelJob was deleted")
    return row


def spec_of(row: Row[Any]) -> Spec:
    """The job's spec; it was validated when it was stored."""
    return Spec.model_validate(row.spec)


def change(tx: Transaction, uid: str, **values: Any) -> None:
    """Set columns of a job; watchers hear of it."""
    if "phase" in values:
        values.setdefault("phase_since", tx.now)
    tx.execute(update(model_jobs).where(model_jobs.c.uid == uid).values(**values))
    tx.notify(topic(uid))


def end(tx: Transaction, uid: str, phase: Phase, message: str) -> None:
    """A job's run is over: its last phase, with an event."""
    free = {"lease_owner": None, "lease_until": 0.0, "stop_requested": False}
    change(tx, uid, phase=phase, message=message[:2000], finished_at=tx.now, **free)
    event(tx, uid, str(phase), message, "Normal" if phase == Phase.SUCCEEDED else "Warning")
    line(tx, uid, f"{phase}: {message}")


def event(
    tx: Transaction, uid: str, reason: str, message: str, kind: Literal["Normal", "Warning"] = "Normal"
) -> None:
    """Add an event: one for each transition and each step."""
    values = {"job_uid": uid, "at": tx.now, "type": kind, "reason": reason, "message": message[:2000]}
    tx.execute(insert(model_job_events).values(**values))


def line(tx: Transaction, uid: str, *texts: str) -> None:
    """Add lines to the job's log; the oldest go when there are many."""
    mine = model_jobs.c.uid == uid
    last = tx.execute(
        update(model_jobs)
        .where(mine)
        .values(log_lines=model_jobs.c.log_lines + len(texts))
        .returning(model_jobs.c.log_lines)
    ).scalar()
    if last is None or not texts:
        return
    first = last - len(texts) + 1
    rows = [
        {
            "job_uid": uid,
            "number": first + index,
            "at": tx.now,
            "text": text.replace("\x00", "")[:LINE_CHARACTERS],
        }
        for index, text in enumerate(texts)
    ]
    tx.execute(insert(model_job_lines), rows)
    old = (model_job_lines.c.job_uid == uid) & (model_job_lines.c.number <= last - MAX_LINES)
    tx.execute(delete(model_job_lines).where(old))


def count_events(tx: Transaction, uid: str) -> int:
    """How many events a job has."""
    mine = model_job_events.c.job_uid == uid
    return int(tx.execute(select(func.count()).select_from(model_job_events).where(mine)).scalar_one())
