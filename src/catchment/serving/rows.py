"""Rows of servings and their rollouts: finding and moving them, their events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Row, func, insert, select, update

from catchment.errors import NotFound
from catchment.serving.spec import ServingSpec
from catchment.serving.states import LIVE, RolloutPhase
from catchment.serving.workload import ServingKey, Workload
from catchment.store.database import Transaction
from catchment.store.schema import serving_events, serving_rollouts, servings


def topic(uid: str) -> str:
    """What a serving's rollout and its watchers listen to."""
    return f"serving:{uid}"


def find(tx: Transaction, namespace: str, name: str, *, lock: bool = False) -> Row[Any] | None:
    """The serving's row; with `lock` nobody else moves it until the transaction ends."""
    statement = select(servings).where(servings.c.namespace == namespace, servings.c.name == name)
    return tx.execute(statement.with_for_update() if lock else statement).first()


def require(tx: Transaction, namespace: str, name: str, *, lock: bool = False) -> Row[Any]:
    """`find`, or NotFound."""
    row = find(tx, namespace, name, lock=lock)
    if row is None:
        raise NotFound(f"serving {name!r} does not exist in namespace {namespace!r}")
    return row


def by_uid(tx: Transaction, uid: str, *, lock: bool = False) -> Row[Any]:
    """The serving's row by its own identity, or NotFound when it was deleted."""
    statement = select(servings).where(servings.c.uid == uid)
    row = tx.execute(statement.with_for_update() if lock else statement).first()
    if row is None:
        raise NotFound("the serving was deleted")
    return row


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
    said = message[:2000]
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


def event(
    tx: Transaction, uid: str, reason: str, message: str, kind: Literal["Normal", "Warning"] = "Normal"
) -> None:
    """Add an event: one for each transition and each step."""
    values = {"serving_uid": uid, "at": tx.now, "type": kind, "reason": reason, "message": message[:2000]}
    tx.execute(insert(serving_events).values(**values))


def count_events(tx: Transaction, uid: str) -> int:
    """How many events a serving has."""
    mine = serving_events.c.serving_uid == uid
    return int(tx.execute(select(func.count()).select_from(serving_events).where(mine)).scalar_one())
