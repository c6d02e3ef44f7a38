"""Rows of servings and their rollouts: finding and moving them, their events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select, update

from catchment.errors import NotFound
from catchment.runs.rows import MESSAGE_CHARACTERS, Events, NamedRows
from catchment.serving.spec import ServingSpec
from catchment.serving.states import LIVE, RolloutPhase
from catchment.serving.workload import ServingKey, Workload
from catchment.store.database import Transaction
from catchment.store.schema import serving_events, serving_rollouts, servings

_ROWS, _EVENTS = NamedRows(servings, "name", "serving"), Events(serving_events, "serving_uid")
find, require, by_uid = _ROWS.find, _ROWS.require, _ROWS.by_uid
event, count_events = _EVENTS.add, _EVENTS.count


def topic(uid: str) -> str:
    """What a serving's rollout and its watchers listen to."""
    return f"serving:{uid}"


def key_of(row: Row[Any]) -> ServingKey:
    """The serving as backends know it."""
    return ServingKey(row.namespace, row.name, row.uid)


def change(tx: Transaction, uid: str, **values: Any) -> None:
    """Set columns of a serving; watchers hear of it."""
    tx.execute(update(servings).where(servings.c.uid == uid).values(updated_at=tx.now, **values))
    tx.notify(topic(uid))


def rollout(tx: Transaction, uid: str, number: int, *, lock: bool = False) -> Row[Any]:
    """A rollout's row, or NotFound."""
    mine = (serving_rollouts.c.serving_uid == uid) & (serving_rollouts.c.number == number)
    statement = select(serving_rollouts).where(mine)
    row = tx.execute(statement.with_for_update() if lock else statement).first()
    if row is None:
        raise NotFound(f"the serving has no rollout {number}")
    return row


def change_rollout(tx: Transaction, uid: str, number: int, **values: Any) -> None:
    """Set columns of a rollout; watchers of its serving hear of it."""
    if "phase" in values:
        values.setdefault("phase_since", tx.now)
    mine = (serving_rollouts.c.serving_uid == uid) & (serving_rollouts.c.number == number)
    tx.execute(update(serving_rollouts).where(mine).values(**values))
    tx.notify(topic(uid))


def end_rollout(tx: Transaction, uid: str, number: int, phase: RolloutPhase, message: str) -> None:
    """A rollout is over: its last phase, with an event; the serving has none under way any more."""
    free = {"lease_owner": None, "lease_until": 0.0, "stop_requested": False}
    said = message[:MESSAGE_CHARACTERS]
    change_rollout(tx, uid, number, phase=phase, message=said, finished_at=tx.now, **free)
    change(tx, uid, rolling=None)
    event(
        tx,
        uid,
        str(phase),
        f"rollout {number}: {message}",
        "Normal" if phase == RolloutPhase.PROMOTED else "Warning",
    )


def kept_of(said: Mapping[str, Any]) -> dict[str, Any]:
    """What users say of a serving (its columns body, spec, labels, annotations) as columns of a rollout."""
    around = {"labels": said["labels"], "annotations": said["annotations"]}
    return {"body": {**said["body"], "metadata": around}, "spec": said["spec"]}


def said(rollout: Row[Any]) -> dict[str, Any]:
    """What was said when a rollout began, as columns of its serving."""
    body = dict(rollout.body)
    return {"body": body, "spec": rollout.spec, **body.pop("metadata", {})}


def spec_of(row: Row[Any]) -> ServingSpec:
    """The spec of a serving or rollout; it was validated when it was stored."""
    return ServingSpec.model_validate(row.spec)


def workloads_of(row: Row[Any]) -> list[Workload]:
    """The workloads that a rollout came to; none before its first step."""
    return [Workload.from_json(each) for each in row.workloads]


def stable_workloads(tx: Transaction, serving: Row[Any]) -> list[Workload]:
    """The workloads that take the serving's traffic when no rollout is under way."""
    return [] if serving.stable is None else workloads_of(rollout(tx, serving.uid, serving.stable))


def live_rollouts(tx: Transaction) -> list[Row[Any]]:
    """The rollouts that have not ended, longest waiting first."""
    mine = select(serving_rollouts).where(serving_rollouts.c.phase.in_(LIVE))
    return list(tx.execute(mine.order_by(serving_rollouts.c.phase_since)).all())
