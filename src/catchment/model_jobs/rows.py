"""Rows of ModelJobs: finding and moving them, their events and lines."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, insert, update

from catchment.model_jobs.spec import Spec
from catchment.model_jobs.states import Phase
from catchment.runs.rows import MESSAGE_CHARACTERS, Events, NamedRows
from catchment.store.database import Transaction
from catchment.store.schema import model_job_events, model_job_lines, model_jobs

MAX_LINES = 20_000
LINE_CHARACTERS = 4_000
_ROWS, _EVENTS = NamedRows(model_jobs, "name", "ModelJob"), Events(model_job_events, "job_uid")
find, require, by_uid = _ROWS.find, _ROWS.require, _ROWS.by_uid
event, count_events = _EVENTS.add, _EVENTS.count


def topic(uid: str) -> str:
    """What a ModelJob's flow and its watchers listen to."""
    return f"modeljob:{uid}"


def delivered(step: str) -> str:
    """Where among the steps an outcome waits that a pod has brought and no flow has taken yet."""
    return f"@{step}"


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
    change(tx, uid, phase=phase, message=message[:MESSAGE_CHARACTERS], finished_at=tx.now, **free)
    event(tx, uid, str(phase), message, "Normal" if phase == Phase.SUCCEEDED else "Warning")
    line(tx, uid, f"{phase}: {message}")


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
