"""Rollouts as a kind of thing that has flow runs (runs.supervise); forgotten approvals; removals."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Row, select

from catchment.errors import CatchmentError, Unreachable
from catchment.jobs.launcher import Launcher
from catchment.observe import trace
from catchment.runs import leases
from catchment.serving import manager, rows, undoing
from catchment.serving.backends import open_backend
from catchment.serving.states import LIVE, STOPPED, RolloutPhase
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import serving_rollouts, servings

log = logging.getLogger(__name__)
DEPLOYMENT = "rollout/rollout"


@dataclass(frozen=True)
class RolloutStart:
    """A rollout for which a flow run is to be made (jobs.launcher.Launchable)."""

    uid: str
    namespace: str
    name: str
    number: int

    @property
    def key(self) -> str:
        """One run for each rollout."""
        return f"rollout-{self.uid}-{self.number}"

    @property
    def deployment(self) -> str:
        """The flow `rollout`."""
        return DEPLOYMENT

    @property
    def run_name(self) -> str:
        """The serving's name and the rollout's number."""
        return f"{self.name}-{self.number}"

    @property
    def parameters(self) -> dict[str, Any]:
        """The flow's."""
        return {"namespace": self.namespace, "name": self.name, "number": self.number}


class Rollouts:
    """As `runs.supervise.Kind`."""

    def busy(self, tx: Transaction) -> Iterable[Row[Any]]:
        """Those that have not ended, but for those that wait for a person."""
        asks = (
            serving_rollouts.c.phase == RolloutPhase.AWAITING_APPROVAL
        ) & ~serving_rollouts.c.stop_requested
        mine = serving_rollouts.c.phase.in_(LIVE) & ~asks
        named = select(serving_rollouts, servings.c.namespace, servings.c.name)
        joined = named.join(servings, servings.c.uid == serving_rollouts.c.serving_uid)
        return tx.execute(joined.where(mine).order_by(serving_rollouts.c.phase_since))

    def name(self, row: Row[Any]) -> str:
        """For log lines."""
        return f"rollout={row.namespace}/{row.name}/{row.number}"

    def subject(self, row: Row[Any]) -> str:
        """A trace for each rollout."""
        return trace.subject(row.serving_uid, row.number)

    def start(self, row: Row[Any]) -> RolloutStart:
        """What a flow run is made for."""
        return RolloutStart(row.serving_uid, row.namespace, row.name, row.number)

    def waits(self, row: Row[Any]) -> bool:
        """Whether no run has begun to work on it, or again."""
        return bool(row.phase == RolloutPhase.PENDING)

    def locked(self, tx: Transaction, row: Row[Any]) -> Row[Any]:
        """The row as it is now, locked."""
        rows.by_uid(tx, row.serving_uid, lock=True)
        return rows.rollout(tx, row.serving_uid, row.number, lock=True)

    def change(self, tx: Transaction, row: Row[Any], **values: Any) -> None:
        """Set columns."""
        rows.change_rollout(tx, row.serving_uid, row.number, **values)

    def lost(self, tx: Transaction, row: Row[Any], flow_run_id: str) -> None:
        """It waits again, for this run."""
        message = "the flow process was lost; the rollout goes on after its last finished step"
        free = {"lease_owner": None, "lease_until": 0.0, "resumes": row.resumes + 1}
        moved = {"phase": RolloutPhase.PENDING, "message": message, "flow_run_id": flow_run_id}
        rows.change_rollout(tx, row.serving_uid, row.number, **moved, **free)
        rows.event(tx, row.serving_uid, "Lost", f"rollout {row.number}: {message}", "Warning")

    def fail(self, store: Store, row: Row[Any], message: str) -> None:
        """Roll it back unless somebody works on it again."""

        def alone(tx: Transaction) -> bool:
            current = rows.rollout(tx, row.serving_uid, row.number)
            over = leases.is_over(tx, current, store.settings.job_lease_s)
            return current.phase == row.phase and over

        if store.db.read(alone):
            undoing.undo(store, row.serving_uid, row.number, message)

    def finish_stop(self, store: Store, row: Row[Any]) -> None:
        """Roll it back: its flow has ended without doing so."""
        self.fail(store, row, row.message if row.stop_requested else STOPPED)


def look_after(store: Store, launcher: Launcher) -> None:
    """End what waits for a person's word for too long, and remove servings that are to be deleted."""
    try:
        look_at_approvals(store, launcher)
    except Unreachable as error:
        log.warning("rollouts that wait for approval cannot be looked at: %s", error)
    for row in store.db.read(_deleting):
        try:
            remove(store, row)
        except CatchmentError as error:
            log.warning("serving=%s/%s removal: %s", row.namespace, row.name, error)


def look_at_approvals(store: Store, launcher: Launcher) -> None:
    """Stop the rollouts that nobody has approved in time, or whose suspended run was cancelled in Prefect.

    Raises:
        Unreachable: Prefect does not answer.
    """
    table = serving_rollouts.c
    asked = (table.phase == RolloutPhase.AWAITING_APPROVAL) & ~table.stop_requested
    mine = select(serving_rollouts).where(asked)
    for row in store.db.read(lambda tx: list(tx.execute(mine).all())):
        limit_s = rows.spec_of(row).canary.approval_timeout_s
        if store.db.read(partial(_has_passed, row.phase_since, limit_s)):
            _stop(store, row, f"nobody approved it within {limit_s:g} s")
        elif launcher.state(row.flow_run_id) in ("cancelling", "cancelled"):
            _stop(store, row, "its flow run was cancelled")


def _has_passed(since: float, limit_s: float, tx: Transaction) -> bool:
    return tx.has_passed(since, limit_s)


def _stop(store: Store, row: Row[Any], message: str) -> None:
    def step(tx: Transaction) -> None:
        rows.by_uid(tx, row.serving_uid, lock=True)
        current = rows.rollout(tx, row.serving_uid, row.number, lock=True)
        if current.phase == RolloutPhase.AWAITING_APPROVAL and current.approval == "asked":
            rows.change_rollout(tx, row.serving_uid, row.number, stop_requested=True, message=message)
            rows.event(tx, row.serving_uid, "Stopping", f"rollout {row.number}: {message}", "Warning")

    store.db.write(step)


def _deleting(tx: Transaction) -> list[Row[Any]]:
    return list(tx.execute(select(servings).where(servings.c.deleting & servings.c.rolling.is_(None))).all())


def remove(store: Store, row: Row[Any]) -> None:
    """Take a serving without a rollout out of service; its rows go when nothing of it runs any more.

    Raises:
        Unreachable: its backend does not answer; it is tried again.
    """
    backend = open_backend(store, row.backend)
    backend.route(rows.key_of(row), {})
    if backend.remove_all(rows.key_of(row)):
        manager.purge_serving(store, row.uid)
    elif row.observed:
        store.db.write(lambda tx: rows.change(tx, row.uid, observed={}))  # all of it drains
