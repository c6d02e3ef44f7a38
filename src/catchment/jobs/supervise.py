"""The supervisor: looks after jobs whose flow run has not begun, was lost, or does not end.

The store is the truth: a flow process renews its job's lease, and where the lease lapses the supervisor
asks Prefect what became of the run and restarts it, ends the job, or finishes a stop or delete.
"""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Row, select, update

from catchment.errors import CatchmentError, Unreachable
from catchment.jobs import log as job_log
from catchment.jobs import purge, rows
from catchment.jobs.crew import for_each
from catchment.jobs.launcher import Launcher, Patient, RunState
from catchment.jobs.lifecycle import start_queued
from catchment.jobs.starting import Start, start_of
from catchment.jobs.states import BUSY, JobState
from catchment.observe import logs, trace
from catchment.runs import leases
from catchment.store import Store
from catchment.store.clock import AHEAD_S
from catchment.store.database import Transaction
from catchment.store.schema import jobs

log = logging.getLogger(__name__)
STOP_GRACE_S = 5.0
"""A flow that has not ended so long after a stop is cancelled in Prefect, the second line."""
LOOK_AT_RUN_S = 4.0
"""A run that Prefect has accepted is left alone for so long before anybody asks how it is."""
CLAIM_S = 15.0
"""How long one supervisor has a job for itself."""
AT_A_TIME = 8
"""So many jobs are looked after at a time: one for which Prefect is slow holds up no other."""
STARTED = (JobState.STARTING, JobState.RUNNING)
GRACE = "supervisor"
"""Owner of the lease that a run gets while it begins; it stands for no process."""


def supervise_once(store: Store, launcher: Launcher) -> None:
    """Start what has waited for a place, then look at every busy job once, at several at a time.

    One job's trouble does not keep the others from being looked after, and neither does a Prefect that hangs.
    """
    _start_queued(store)
    busy = select(jobs).where(jobs.c.state.in_(BUSY)).order_by(jobs.c.state_since)
    due = store.db.read(lambda tx: [row for row in tx.execute(busy) if _needs_a_look(store, tx, row)])
    patient = Patient(launcher)
    for_each(due, lambda seen: _look(store, patient, seen.uid), AT_A_TIME)


def _start_queued(store: Store) -> None:
    """Give waiting jobs their places; what was started has no flow run yet, and so is looked at next."""
    try:
        start_queued(store)
    except (CatchmentError, OSError):  # a job that cannot begin must not end the look at the others
        log.exception("supervisor: the queue")


def _look(store: Store, launcher: Launcher, uid: str) -> None:
    if (row := _claim(store, uid)) is None:
        return
    with logs.about(job=row.id, namespace=row.namespace):
        try:
            _look_after(store, launcher, row)
        except CatchmentError as error:
            log.warning("job=%s/%s supervisor: %s", row.namespace, row.id, error)
        except OSError:  # a folder that cannot be removed, for one
            log.exception("job=%s/%s supervisor", row.namespace, row.id)
        finally:
            _unclaim(store, row.uid)


def _lease_is_over(store: Store, tx: Transaction, row: Row[Any]) -> bool:
    return leases.is_over(tx, row, store.settings.job_lease_s)


def _is_driven(store: Store, tx: Transaction, row: Row[Any]) -> bool:
    """Whether a flow process has the job."""
    return bool(row.lease_owner != GRACE and not _lease_is_over(store, tx, row))


def _needs_a_look(store: Store, tx: Transaction, row: Row[Any]) -> bool:
    if row.state in (JobState.STOPPING, JobState.DELETING):
        return not _is_driven(store, tx, row) or tx.has_passed(row.state_since, STOP_GRACE_S)
    if row.state not in BUSY or not _lease_is_over(store, tx, row):
        return False
    return row.flow_run_id is None or tx.has_passed(row.state_since, LOOK_AT_RUN_S)


def _claim(store: Store, uid: str) -> Row[Any] | None:
    """The job as it is now, for one supervisor at a time; None when another has looked after it."""

    def step(tx: Transaction) -> Row[Any] | None:
        until = jobs.c.supervised_until
        # Later than anybody claims a job for: the clock has gone back since.
        free = (jobs.c.uid == uid) & ((until <= tx.now) | (until > tx.now + CLAIM_S + AHEAD_S))
        taken = tx.execute(update(jobs).where(free).values(supervised_until=tx.now + CLAIM_S)).rowcount
        row = rows.by_uid(tx, uid) if taken else None
        if row is None or _needs_a_look(store, tx, row):
            return row
        tx.execute(update(jobs).where(jobs.c.uid == uid).values(supervised_until=0.0))
        return None

    return store.db.write(step)


def _unclaim(store: Store, uid: str) -> None:
    store.db.write(lambda tx: tx.execute(update(jobs).where(jobs.c.uid == uid).values(supervised_until=0.0)))


def _look_after(store: Store, launcher: Launcher, row: Row[Any]) -> None:
    match row.state:
        case JobState.DELETING:
            _cancel(launcher, row, row.flow_run_id)
            if not store.db.read(lambda tx: _is_driven(store, tx, row)):
                purge.purge_job(store, row.uid)
        case JobState.STOPPING:
            _cancel(launcher, row, row.flow_run_id)
            if not store.db.read(lambda tx: _is_driven(store, tx, row)):
                _end_if_still(store, row, JobState.STOPPED, "")
        case JobState.STARTING if row.flow_run_id is None:
            launch(store, launcher, start_of(row))
        case _:
            _look_at_run(store, launcher, row)


def launch(store: Store, launcher: Launcher, start: Start) -> None:
    """Make a start's flow run; when Prefect does not answer the job says so, and fails after a while."""
    try:
        with trace.span("make flow run", job=start.uid, kind="client", run=start.run):
            flow_run_id = launcher.launch(start)
    except CatchmentError as error:
        _wait_or_fail(store, start.uid, f"the job waits for Prefect: {error}", error)
        return

    def step(tx: Transaction) -> bool:
        row = tx.execute(select(jobs).where(jobs.c.uid == start.uid).with_for_update()).first()
        if row is None or start_of(row).key != start.key or row.state not in STARTED:
            return False
        if row.flow_run_id is None:
            rows.change(tx, start.uid, flow_run_id=flow_run_id, reason="")
        return True

    if not store.db.write(step):
        # It was stopped or deleted while its run was being made: the run must not start it again.
        _cancel(launcher, start, flow_run_id)


def _wait_or_fail(store: Store, uid: str, reason: str, error: CatchmentError) -> None:
    def step(tx: Transaction) -> None:
        row = tx.execute(select(jobs).where(jobs.c.uid == uid).with_for_update()).first()
        if row is None or row.state != JobState.STARTING:
            return
        over = tx.has_passed(row.state_since, store.settings.start_timeout_s)
        if over or not isinstance(error, Unreachable):
            told = str(error) if not over else f"{reason}, for too long"
            rows.end(tx, uid, JobState.FAILED, told)
            job_log.write(tx, uid, job_log.Line(f"FAILED: {told}", "error", run=row.run))
        elif row.reason != reason:
            tx.execute(update(jobs).where(jobs.c.uid == uid).values(reason=reason))
            job_log.write(tx, uid, job_log.Line(reason, "warning", run=row.run))

    store.db.write(step)


def _cancel(launcher: Launcher, job: Row[Any] | Start, flow_run_id: str | None) -> None:
    if flow_run_id is None:
        return
    try:
        launcher.cancel(flow_run_id)
    except Unreachable as error:
        # The store has told flow and sites already; Prefect only has to catch up.
        log.warning("job=%s flow run %s not cancelled: %s", job.uid, flow_run_id, error)


def _look_at_run(store: Store, launcher: Launcher, row: Row[Any]) -> None:
    """A job without a living flow process: did its run end, is it waiting, or was the process lost?"""
    state = launcher.state(row.flow_run_id)
    if state in ("cancelled", "cancelling"):
        _end_if_still(store, row, JobState.STOPPED, "the flow run was cancelled in Prefect")
    elif state in ("waiting", "pending"):
        since, longest_s = max(row.state_since, row.lease_until), store.settings.start_timeout_s
        if store.db.read(lambda tx: tx.has_passed(since, longest_s)):
            _cancel(launcher, row, row.flow_run_id)
            reason = (
                f"no flow runner took the job within {store.settings.start_timeout_s:g} s; "
                "is one running for the work pool?"
            )
            _end_if_still(store, row, JobState.FAILED, reason)
    elif state in ("running", "paused") and row.state == JobState.STARTING and row.lease_owner != GRACE:
        _let_begin(store, row)
    else:
        _resume(store, launcher, row, state)


def _let_begin(store: Store, row: Row[Any]) -> None:
    """The run's process has just begun, it seems, and will claim the job: it gets time for that."""

    def step(tx: Transaction) -> None:
        current = rows.by_uid(tx, row.uid, lock=True)
        if current.state == row.state and _lease_is_over(store, tx, current):
            lease = {"lease_owner": GRACE, "lease_until": tx.now + leases.BEGIN_S}
            tx.execute(update(jobs).where(jobs.c.uid == row.uid).values(**lease))

    store.db.write(step)


def _resume(store: Store, launcher: Launcher, row: Row[Any], state: RunState) -> None:
    """Go on with a job whose process was lost, unless it gets nowhere."""
    if row.resumes >= store.settings.max_resumes:
        reason = f"the flow process was lost {row.resumes + 1} times without a round in between"
        _cancel(launcher, row, row.flow_run_id)
        _end_if_still(store, row, JobState.FAILED, f"{reason}; the flow run is {state}")
        return
    flow_run_id = launcher.relaunch(start_of(row), row.flow_run_id)

    def step(tx: Transaction) -> bool:
        current = rows.by_uid(tx, row.uid, lock=True)
        due = current.state == row.state and _lease_is_over(store, tx, current)
        if due:
            reason = "the flow process was lost; the job goes on after its last committed round"
            job_log.write(tx, row.uid, job_log.Line(reason, "warning", run=row.run))
            rows.change(
                tx,
                row.uid,
                state=JobState.STARTING,
                reason=reason,
                resumes=current.resumes + 1,
                flow_run_id=flow_run_id,
                lease_owner=None,
            )
        return due or current.state in STARTED

    if store.db.write(step):
        log.warning("job=%s/%s flow process lost (%s), resumed", row.namespace, row.id, state)
    else:
        _cancel(launcher, row, flow_run_id)  # stopped or deleted meanwhile


def _end_if_still(store: Store, row: Row[Any], state: JobState, reason: str) -> None:
    """End a job unless somebody moved it meanwhile."""

    def step(tx: Transaction) -> None:
        current = rows.by_uid(tx, row.uid, lock=True)
        if current.state == row.state and not _is_driven(store, tx, current):
            rows.end(tx, row.uid, state, reason)
            level: job_log.Level = "error" if state == JobState.FAILED else "info"
            words = f"{state}: {reason}" if reason else str(state)
            job_log.write(tx, row.uid, job_log.Line(words, level, run=row.run))
            rows.cancel_open_works(tx, row.uid, reason or "the job was stopped")

    store.db.write(step)
