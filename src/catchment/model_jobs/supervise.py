"""Looks after ModelJobs whose flow run has not begun, was lost, or does not end (as jobs.supervise)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select

from catchment.errors import CatchmentError, Unreachable
from catchment.jobs.crew import for_each
from catchment.jobs.launcher import Launcher, Patient
from catchment.model_jobs import manager, rows
from catchment.model_jobs.states import BUSY, STOPPED, Phase
from catchment.observe import trace
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_jobs

log = logging.getLogger(__name__)
DEPLOYMENT = "model_job/model_job"
STOP_GRACE_S = 5.0
LOOK_AT_RUN_S = 4.0
AT_A_TIME = 4


@dataclass(frozen=True)
class ModelJobStart:
    """A ModelJob for which a flow run is to be made (jobs.launcher.Launchable)."""

    uid: str
    namespace: str
    name: str

    @property
    def key(self) -> str:
        """One run for each ModelJob."""
        return f"modeljob-{self.uid}"

    @property
    def deployment(self) -> str:
        """The flow `model_job`."""
        return DEPLOYMENT

    @property
    def run_name(self) -> str:
        """The job's name."""
        return self.name

    @property
    def parameters(self) -> dict[str, str]:
        """The flow's."""
        return {"namespace": self.namespace, "name": self.name}


def supervise_once(store: Store, launcher: Launcher) -> None:
    """Look at every ModelJob once that nobody works on."""
    busy = select(model_jobs).where(model_jobs.c.phase.in_(BUSY)).order_by(model_jobs.c.phase_since)
    due = store.db.read(lambda tx: [row for row in tx.execute(busy) if _needs_a_look(store, tx, row)])
    patient = Patient(launcher)
    for_each(due, lambda seen: _look(store, patient, seen), AT_A_TIME)


def _needs_a_look(store: Store, tx: Transaction, row: Row[Any]) -> bool:
    driven = not rows.lease_is_over(tx, row, store.settings.job_lease_s)
    if row.stop_requested:
        return not driven or tx.has_passed(row.phase_since, STOP_GRACE_S)
    if driven:
        return False
    return row.flow_run_id is None or tx.has_passed(row.phase_since, LOOK_AT_RUN_S)


def _look(store: Store, launcher: Launcher, row: Row[Any]) -> None:
    try:
        _look_after(store, launcher, row)
    except (CatchmentError, OSError) as error:
        log.warning("modeljob=%s/%s supervisor: %s", row.namespace, row.name, error)


def _look_after(store: Store, launcher: Launcher, row: Row[Any]) -> None:
    driven = store.db.read(lambda tx: not rows.lease_is_over(tx, row, store.settings.job_lease_s))
    if row.stop_requested:
        if row.flow_run_id is not None:
            launcher.cancel(row.flow_run_id)
        if driven:
            return
        if row.phase == Phase.DELETING:
            manager.purge_model_job(store, row.uid)
        else:
            _end_if_still(store, row, STOPPED)
    elif row.flow_run_id is None:
        _launch(store, launcher, row)
    else:
        _look_at_run(store, launcher, row)


def _launch(store: Store, launcher: Launcher, row: Row[Any]) -> None:
    """Make the flow run; while Prefect does not answer the job says so, and fails after a while."""
    start = ModelJobStart(row.uid, row.namespace, row.name)
    try:
        with trace.span("make flow run", job=row.uid, kind="client"):
            flow_run_id = launcher.launch(start)
    except CatchmentError as error:
        waits = isinstance(error, Unreachable)
        limit_s = store.settings.start_timeout_s
        if waits and not store.db.read(lambda tx: tx.has_passed(row.phase_since, limit_s)):
            message = f"waiting for Prefect: {error}"
            if row.message != message:
                store.db.write(lambda tx: rows.change(tx, row.uid, message=message))
            return
        _end_if_still(store, row, f"no flow run could be made: {error}")
        return

    def step(tx: Transaction) -> bool:
        current = rows.by_uid(tx, row.uid, lock=True)
        if current.stop_requested:
            return False
        if current.flow_run_id is None:
            rows.change(tx, row.uid, flow_run_id=flow_run_id, message="waiting for a runner")
        return True

    if not store.db.write(step):
        launcher.cancel(flow_run_id)


def _look_at_run(store: Store, launcher: Launcher, row: Row[Any]) -> None:
    """A job without a living flow process: did its run end, is it waiting, or was the process lost?"""
    state = launcher.state(row.flow_run_id)
    if state in ("cancelled", "cancelling"):
        _end_if_still(store, row, STOPPED)
    elif state in ("waiting", "pending"):
        limit_s, since = store.settings.start_timeout_s, max(row.phase_since, row.lease_until)
        if store.db.read(lambda tx: tx.has_passed(since, limit_s)):
            launcher.cancel(row.flow_run_id)
            _end_if_still(store, row, f"no flow runner took the job within {limit_s:g} s; is one running?")
    elif state == "running" and row.phase == Phase.PENDING:
        limit_s = rows.BEGIN_S
        if store.db.read(lambda tx: tx.has_passed(row.phase_since + LOOK_AT_RUN_S, limit_s)):
            _resume(store, launcher, row)
    else:
        _resume(store, launcher, row)


def _resume(store: Store, launcher: Launcher, row: Row[Any]) -> None:
    """Go on with a job whose process was lost, unless it gets nowhere."""
    if row.resumes >= store.settings.max_resumes:
        launcher.cancel(row.flow_run_id)
        _end_if_still(store, row, f"the flow process was lost {row.resumes + 1} times")
        return
    start = ModelJobStart(row.uid, row.namespace, row.name)
    flow_run_id = launcher.relaunch(start, row.flow_run_id)

    def step(tx: Transaction) -> None:
        current = rows.by_uid(tx, row.uid, lock=True)
        if current.stop_requested or not rows.lease_is_over(tx, current, store.settings.job_lease_s):
            return
        message = "the flow process was lost; the job goes on after its last finished step"
        more = {
            "phase": Phase.PENDING,
            "resumes": current.resumes + 1,
            "lease_owner": None,
            "lease_until": 0.0,
        }
        rows.change(tx, row.uid, message=message, flow_run_id=flow_run_id, **more)
        rows.event(tx, row.uid, "Lost", message, "Warning")

    store.db.write(step)


def _end_if_still(store: Store, row: Row[Any], message: str) -> None:
    """End a job as Failed unless somebody works on it again."""

    def step(tx: Transaction) -> None:
        current = rows.by_uid(tx, row.uid, lock=True)
        over = rows.lease_is_over(tx, current, store.settings.job_lease_s)
        if current.phase == row.phase and over and current.phase in (Phase.PENDING, Phase.RUNNING):
            rows.end(tx, row.uid, Phase.FAILED, message)

    store.db.write(step)
