"""The queue: jobs beyond the configured parallelism wait as QUEUED, first come first served.

A running job that waits for sites holds no place, and a namespace at its own limit keeps no other
namespace waiting, so nobody stands at the head of the line who cannot move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, select, text

from catchment.jobs import rows
from catchment.jobs.states import JobState
from catchment.settings import Settings
from catchment.store.database import Transaction
from catchment.store.schema import jobs

HOLDING = (JobState.STARTING, JobState.RUNNING, JobState.STOPPING)
"""States in which a job holds a place."""
PLACES_LOCK = 0x706C6163
"""Key of the advisory lock under which places are counted and taken on PostgreSQL."""


def no_place(tx: Transaction, settings: Settings, namespace: str) -> str:
    """Why a job of the namespace cannot start now; empty when there is a place.

    Places are counted and taken under one lock, so that two starts at once do not take the same one.
    """
    if tx.connection.dialect.name != "sqlite":  # there the write transaction itself is the lock
        tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": PLACES_LOCK})
    counted = tx.execute(
        select(jobs.c.namespace, func.count())
        .where(jobs.c.state.in_(HOLDING), jobs.c.waits_for_sites.is_(False))
        .group_by(jobs.c.namespace)
    )
    running: dict[str, int] = {name: number for name, number in counted}  # noqa: C416 - rows are no pairs
    total, here = sum(running.values()), running.get(namespace, 0)
    if total >= settings.max_running_jobs:
        return f"waits for a free place: {total} jobs run, at most {settings.max_running_jobs} at a time"
    if here >= (limit := settings.max_running_jobs_per_namespace):
        return f"waits for a free place: {here} jobs of the namespace run, at most {limit} at a time"
    return ""


def not_its_turn(tx: Transaction, settings: Settings, row: Row[Any]) -> str:
    """Why a job must wait: there is no place, or somebody who came before it could take the one there is."""
    if reason := no_place(tx, settings, row.namespace):
        return reason
    ahead = [other for other in waiting(tx) if other.uid != row.uid]
    if any(not no_place(tx, settings, other.namespace) for other in ahead):
        return "waits for its turn: others have waited longer"
    return ""


def wait(tx: Transaction, row: Row[Any], reason: str, *, fresh: bool) -> None:
    """Let a resting job wait for its place; one that waits already keeps its turn."""
    rows.change(
        tx,
        row.uid,
        state=JobState.QUEUED,
        reason=reason,
        queued_at=row.queued_at or tx.now,
        queued_fresh=fresh or row.queued_fresh,
    )


def waiting(tx: Transaction) -> Sequence[Row[Any]]:
    """Jobs that wait for a place, longest first."""
    statement = select(jobs).where(jobs.c.state == JobState.QUEUED, jobs.c.queued_at.is_not(None))
    return tx.execute(statement.order_by(jobs.c.queued_at, jobs.c.uid)).all()
