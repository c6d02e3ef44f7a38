"""A new rollout of a serving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, insert

from catchment.catalog.audit import Actor
from catchment.observe import trace
from catchment.serving import rows
from catchment.serving.states import RolloutPhase
from catchment.store.database import Transaction
from catchment.store.schema import serving_rollouts


def add_rollout(
    tx: Transaction,
    row: Row[Any],
    said: Mapping[str, Any],
    actor: Actor,
    target: int | None = None,
) -> int:
    """A new rollout of a serving that has none under way; its number. `said` is as `rows.said` has it."""
    number = int(row.last_rollout) + 1
    values = {
        "serving_uid": row.uid,
        "number": number,
        "kind": "rollout" if target is None else "rollback",
        "target": target,
        **rows.kept_of(said),
        "phase": RolloutPhase.PENDING,
        "message": "waiting for a runner",
        "created_by": who(actor),
        "created_at": tx.now,
        "phase_since": tx.now,
        "steps": {},
        "workloads": [],
    }
    with trace.span("create rollout", place=trace.of(trace.subject(row.uid, number)), number=number):
        tx.execute(insert(serving_rollouts).values(**values))
    rows.change(tx, row.uid, rolling=number, last_rollout=number)
    rows.event(tx, row.uid, "Pending", f"rollout {number} waits for a runner")
    return number


def who(actor: Actor) -> dict[str, str]:
    """Who asked, as rows keep it."""
    return {"login": actor.login, "claimed": actor.claimed}
