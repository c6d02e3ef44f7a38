"""Looks after what flow runs work on: makes the runs, and finds those that were lost or do not end."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Protocol

from sqlalchemy import Row

from catchment.errors import CatchmentError, Unreachable
from catchment.jobs.crew import for_each
from catchment.jobs.launcher import Launchable, Launcher, Patient
from catchment.observe import trace
from catchment.runs import leases
from catchment.store import Store
from catchment.store.database import Transaction

log = logging.getLogger(__name__)
STOP_GRACE_S = 5.0
LOOK_AT_RUN_S = 4.0
AT_A_TIME = 4


class Kind(Protocol):
    """One kind of thing that has flow runs.

    Its rows have `phase_since`, `message`, `flow_run_id`, `lease_owner`, `lease_until`, `resumes` and
    `stop_requested`.
    """

    def busy(self, tx: Transaction) -> Iterable[Row[Any]]:
        """Rows of things that a run is to work on, or that are to end; longest waiting first."""

    def name(self, row: Row[Any]) -> str:
        """For log lines."""

    def subject(self, row: Row[Any]) -> str:
        """What its trace is that of (observe.trace)."""

    def start(self, row: Row[Any]) -> Launchable:
        """What a flow run is made for."""

    def waits(self, row: Row[Any]) -> bool:
        """Whether no run has begun to work on it yet, or again."""

    def locked(self, tx: Transaction, row: Row[Any]) -> Row[Any]:
        """The row as it is now, which nobody else moves until the transaction ends. Raises NotFound."""

    def change(self, tx: Transaction, row: Row[Any], **values: Any) -> None:
        """Set columns; watchers hear of it."""

    def lost(self, tx: Transaction, row: Row[Any], flow_run_id: str) -> None:
        """The process was lost; this run goes on with it: its phase waits again, with an event."""

    def fail(self, store: Store, row: Row[Any], message: str) -> None:
        """End it, unless it has moved or somebody works on it again."""

    def finish_stop(self, store: Store, row: Row[Any]) -> None:
        """Nobody works any more on what is to stop or to be deleted: end it, or remove it."""


def supervise_once(store: Store, launcher: Launcher, kind: Kind) -> None:
    """Look at every thing of a kind once that nobody works on."""
    due = store.db.read(lambda tx: [row for row in kind.busy(tx) if _needs_a_look(store, tx, row)])
    patient = Patient(launcher)
    for_each(due, lambda row: _look(store, patient, kind, row), AT_A_TIME)


def _needs_a_look(store: Store, tx: Transaction, row: Row[Any]) -> bool:
    driven = not leases.is_over(tx, row, store.settings.job_lease_s)
    if row.stop_requested:
        return not driven or tx.has_passed(row.phase_since, STOP_GRACE_S)
    if driven:
        return False
    return row.flow_run_id is None or tx.has_passed(row.phase_since, LOOK_AT_RUN_S)


def _look(store: Store, launcher: Launcher, kind: Kind, row: Row[Any]) -> None:
    try:
        _look_after(store, launcher, kind, row)
    except (CatchmentError, OSError) as error:
        log.warning("%s supervisor: %s", kind.name(row), error)


def _look_after(store: Store, launcher: Launcher, kind: Kind, row: Row[Any]) -> None:
    driven = store.db.read(lambda tx: not leases.is_over(tx, row, store.settings.job_lease_s))
    if row.stop_requested:
        if row.flow_run_id is not None:
            launcher.cancel(row.flow_run_id)
        if not driven:
            kind.finish_stop(store, row)
    elif row.flow_run_id is None:
        _launch(store, launcher, kind, row)
    else:
        _look_at_run(store, launcher, kind, row)


def _launch(store: Store, launcher: Launcher, kind: Kind, row: Row[Any]) -> None:
    """Make the flow run; while Prefect does not answer the row says so, and fails after a while."""
    try:
        with trace.span("make flow run", job=kind.subject(row), kind="client"):
            flow_run_id = launcher.launch(kind.start(row))
    except CatchmentError as error:
        limit_s = store.settings.start_timeout_s
        late = store.db.read(lambda tx: tx.has_passed(row.phase_since, limit_s))
        if not isinstance(error, Unreachable) or late:
            kind.fail(store, row, f"no flow run could be made: {error}")
        elif row.message != (message := f"waiting for Prefect: {error}"):
            store.db.write(lambda tx: kind.change(tx, row, message=message))
        return

    def step(tx: Transaction) -> bool:
        current = kind.locked(tx, row)
        if current.stop_requested:
            return False
        if current.flow_run_id is None:
            kind.change(tx, row, flow_run_id=flow_run_id, message="waiting for a runner")
        return True

    if not store.db.write(step):
        launcher.cancel(flow_run_id)


def _look_at_run(store: Store, launcher: Launcher, kind: Kind, row: Row[Any]) -> None:
    """A thing without a living flow process: did its run end, is it waiting, or was the process lost?"""
    state = launcher.state(row.flow_run_id)
    if state in ("cancelled", "cancelling"):
        kind.finish_stop(store, row)
    elif state in ("waiting", "pending"):
        limit_s, since = store.settings.start_timeout_s, max(row.phase_since, row.lease_until)
        if store.db.read(lambda tx: tx.has_passed(since, limit_s)):
            launcher.cancel(row.flow_run_id)
            kind.fail(store, row, f"no flow runner took it within {limit_s:g} s; is one running?")
    elif state == "paused" and kind.waits(row):
        launcher.relaunch(kind.start(row), row.flow_run_id)  # it was put aside until now
    elif state == "running" and kind.waits(row):
        limit_s = leases.BEGIN_S
        if store.db.read(lambda tx: tx.has_passed(row.phase_since + LOOK_AT_RUN_S, limit_s)):
            _resume(store, launcher, kind, row)
    else:
        _resume(store, launcher, kind, row)


def _resume(store: Store, launcher: Launcher, kind: Kind, row: Row[Any]) -> None:
    """Go on with a thing whose process was lost, unless it gets nowhere."""
    if row.resumes >= store.settings.max_resumes:
        launcher.cancel(row.flow_run_id)
        kind.fail(store, row, f"the flow process was lost {row.resumes + 1} times")
        return
    flow_run_id = launcher.relaunch(kind.start(row), row.flow_run_id)

    def step(tx: Transaction) -> None:
        current = kind.locked(tx, row)
        if not current.stop_requested and leases.is_over(tx, current, store.settings.job_lease_s):
            kind.lost(tx, current, flow_run_id)

    store.db.write(step)
