"""How a rollout ends: everything as it was before it, or what was before it gone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row

from catchment import faults
from catchment.serving import rows, traffic
from catchment.serving.backends import open_backend
from catchment.serving.states import ENDED, RolloutPhase, State
from catchment.serving.topics import ROUTES
from catchment.serving.workload import Backend
from catchment.store import Store
from catchment.store.database import Transaction

PROMOTED_STEP = "promote"
"""In a rollout's steps once its workloads are the stable ones."""


def weights_at(tx: Transaction, serving: Row[Any], rollout: Row[Any], percent: int) -> dict[str, int]:
    """The serving's weights with so much of the traffic for a rollout that is not yet the stable one."""
    new = _shares(rollout)
    stable = {} if serving.stable is None else _shares(rows.rollout(tx, serving.uid, serving.stable))
    return traffic.weights(stable, new, percent)


def _shares(rollout: Row[Any]) -> dict[str, int]:
    by_predictor = {each.name: each.traffic for each in rows.spec_of(rollout).predictors}
    return traffic.shares(rows.workloads_of(rollout), by_predictor)


def route(store: Store, serving: Row[Any], backend: Backend, weights: dict[str, int]) -> None:
    """Split the serving's traffic so, and write that down. Raises Unreachable."""
    backend.route(rows.key_of(serving), weights)

    def step(tx: Transaction) -> None:
        rows.change(tx, serving.uid, weights=weights)
        tx.notify(ROUTES)

    store.db.write(step)


def route_as_ended(store: Store, uid: str, number: int, backend: Backend) -> None:
    """Give the stable version all the traffic again, if the rollout has ended. Raises Unreachable."""

    def step(tx: Transaction) -> tuple[Row[Any], dict[str, int]] | None:
        serving, rollout = rows.by_uid(tx, uid), rows.rollout(tx, uid, number)
        return (serving, weights_at(tx, serving, rollout, 0)) if rollout.phase in ENDED else None

    ended = store.db.read(step)
    if ended is not None:
        route(store, ended[0], backend, ended[1])


def undo(store: Store, uid: str, number: int, why: str, *, owner: str | None = None) -> None:
    """Give the stable version all the traffic again, end what the rollout started, and the rollout.

    One that has been promoted is completed instead: what was before it may be gone. Safe to repeat.

    Args:
        store: the store.
        uid: of the serving.
        number: of the rollout.
        why: what people read.
        owner: of the rollout's lease, where only that one may do this.

    Raises:
        Unreachable: the backend does not answer; the rollout stays as it is.
    """
    serving, rollout = store.db.write(lambda tx: _going_back(tx, uid, number, why, owner))
    if rollout.phase in ENDED or (owner is not None and rollout.lease_owner != owner):
        return
    if PROMOTED_STEP in rollout.steps:
        complete(store, uid, number)
        return
    backend = open_backend(store, serving.backend)
    new = {each.key for each in rows.workloads_of(rollout)}
    kept = {each.key for each in store.db.read(lambda tx: rows.stable_workloads(tx, serving))}
    if new:
        back = store.db.read(lambda tx: weights_at(tx, serving, rollout, 0))
        route(store, serving, backend, back)
        faults.reach("after_rollback")
        backend.remove(rows.key_of(serving), sorted(new - kept))
    store.db.write(lambda tx: _end(tx, uid, number, why, new - kept))


def _going_back(
    tx: Transaction, uid: str, number: int, why: str, owner: str | None
) -> tuple[Row[Any], Row[Any]]:
    """From here on it goes back and not on, whoever takes it up when the backend answers again.

    Decided under the lock that a promotion takes: one that comes first stays.

    Returns:
        The serving and the rollout as they were found.
    """
    serving = rows.by_uid(tx, uid, lock=True)
    rollout = rows.rollout(tx, uid, number, lock=True)
    promoted, others = PROMOTED_STEP in rollout.steps, owner not in (None, rollout.lease_owner)
    if rollout.phase not in ENDED and not rollout.stop_requested and not promoted and not others:
        rows.change_rollout(tx, uid, number, stop_requested=True, message=why[:2000])
        rows.event(tx, uid, "RollingBack", f"rollout {number}: {why}", "Warning")
    return serving, rollout


def _without(serving: Row[Any], drains: Collection[str]) -> dict[str, Any]:
    """What is known of the serving's workloads, without those that drain now: nobody counts on them."""
    return {key: seen for key, seen in serving.observed.items() if key not in drains}


def _end(tx: Transaction, uid: str, number: int, why: str, drains: Collection[str]) -> None:
    serving = rows.by_uid(tx, uid, lock=True)
    rollout = rows.rollout(tx, uid, number, lock=True)
    if rollout.phase in ENDED:
        return
    if serving.stable is None:
        rows.end_rollout(tx, uid, number, RolloutPhase.FAILED, why)
        if not serving.deleting:
            rows.change(tx, uid, state=State.FAILED, message=why[:2000], observed={})
        return
    stable = rows.rollout(tx, uid, serving.stable)
    rows.end_rollout(tx, uid, number, RolloutPhase.ROLLED_BACK, why)
    told = f"rollout {number} was rolled back: {why}"[:2000]
    left = _without(serving, drains)
    rows.change(tx, uid, message=told, generation=serving.generation + 1, observed=left, **rows.said(stable))


def complete(store: Store, uid: str, number: int) -> None:
    """End what was there before a promoted rollout, and the rollout. Safe to repeat.

    Raises:
        Unreachable: the backend does not answer.
    """
    serving = store.db.read(lambda tx: rows.by_uid(tx, uid))
    rollout = store.db.read(lambda tx: rows.rollout(tx, uid, number))
    if rollout.phase in ENDED:
        return
    mine = {each.key for each in rows.workloads_of(rollout)}
    old = sorted(set(rollout.steps[PROMOTED_STEP]["retires"]) - mine)
    if old:
        open_backend(store, serving.backend).remove(rows.key_of(serving), old)
    models = ", ".join(each.model.reference for each in rows.workloads_of(rollout))

    def step(tx: Transaction) -> None:
        current = rows.by_uid(tx, uid, lock=True)
        if rows.rollout(tx, uid, number, lock=True).phase not in ENDED:
            rows.change(tx, uid, observed=_without(current, old))
            rows.end_rollout(tx, uid, number, RolloutPhase.PROMOTED, f"{models} takes the traffic")

    store.db.write(step)
