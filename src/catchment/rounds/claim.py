"""One process at a time drives a job's run: it claims the job, and proves that with each write."""

from __future__ import annotations

import contextlib
import logging
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, update

from catchment.errors import JobStopped, LeaseLost
from catchment.jobs import log as job_log
from catchment.jobs import rows
from catchment.jobs.starting import FreeFolder, begin_start, with_free_folder
from catchment.jobs.states import JobState
from catchment.runs import leases
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import jobs

log = logging.getLogger(__name__)
given_up: ContextVar[threading.Event | None] = ContextVar("given_up", default=None)
"""Set in a step's thread once the step took too long: another try runs, this one must not write."""


@dataclass(frozen=True)
class Claim:
    """A process's right to drive one run of a job; ids only, so that tasks can pass it on.

    Attributes:
        owner: names the process's attempt; a later attempt has another one.
    """

    uid: str
    namespace: str
    job_id: str
    run: int
    owner: str


def claim_job(store: Store, namespace: str, job_id: str, *, flow_run_id: str, attempt: int) -> Claim:
    """Take a job for a flow run. A job that rests is started by this, as `:start` would.

    Raises:
        NotFound: no such job.
        JobStopped: the job is to stop, or was stopped before its first process came up.
        LeaseLost: another flow run drives it.
    """
    owner = f"{flow_run_id}:{attempt}"[:64]

    def step(tx: Transaction, free: FreeFolder | None) -> Claim:
        require_wanted()
        row = rows.require(tx, namespace, job_id, lock=True)
        over = leases.is_over(tx, row, store.settings.job_lease_s)
        if row.stop_requested or row.state in (JobState.STOPPING, JobState.DELETING):
            raise JobStopped(f"job {job_id!r} is {row.state}")
        if row.state not in (JobState.STARTING, JobState.RUNNING):
            if row.flow_run_id == flow_run_id and attempt == 1:
                # Its start was ended before its process came up; only a retry of the run means it anew.
                raise JobStopped(f"job {job_id!r} is {row.state} already")
            begin_start(tx, row, free)
            row = rows.by_uid(tx, row.uid)
        elif row.flow_run_id not in (None, flow_run_id):
            raise LeaseLost(f"flow run {row.flow_run_id} drives job {job_id!r}")
        elif row.flow_run_id is None and row.lease_owner not in (None, owner) and not over:
            raise LeaseLost(f"another process drives job {job_id!r}")
        rows.change(
            tx,
            row.uid,
            state=JobState.RUNNING,
            reason="",
            flow_run_id=flow_run_id,
            lease_owner=owner,
            lease_until=tx.now + store.settings.job_lease_s,
        )
        again = " again" if row.lease_owner not in (None, owner) or attempt > 1 or row.resumes else ""
        told = f"RUNNING{again}, in flow run {flow_run_id}"
        job_log.write(tx, row.uid, job_log.Line(told, run=row.run))
        return Claim(row.uid, namespace, job_id, row.run, owner)

    return with_free_folder(store, step)


def held(tx: Transaction, claim: Claim, *, lock: bool = True) -> Row[Any]:
    """The claimed job's row, locked; every write of a run begins with this.

    Raises:
        JobStopped: somebody asked the job to stop.
        LeaseLost: the run belongs to another process now, or is over; or this step was given up.
        NotFound: the job was deleted.
    """
    row = rows.by_uid(tx, claim.uid, lock=lock)
    require_wanted()  # with the lock held: a late step that is let through ends before the next try begins
    if row.stop_requested:
        raise JobStopped(row.reason or "stop was asked for")
    if row.lease_owner != claim.owner or row.run != claim.run:
        raise LeaseLost(f"job {claim.job_id!r} is driven by another process now, or its run is over")
    return row


def require_wanted() -> None:
    """Refuse to go on in a step that took too long and was given up. Raises LeaseLost."""
    late = given_up.get()
    if late is not None and late.is_set():
        raise LeaseLost("this step took too long and was given up; another try of it runs")


def renew(store: Store, claim: Claim) -> bool:
    """Prolong the lease; False when it is not ours any more."""
    return store.db.write(lambda tx: _renewed(store, tx, claim))


def _renewed(store: Store, tx: Transaction, claim: Claim) -> bool:
    mine = (jobs.c.uid == claim.uid) & (jobs.c.lease_owner == claim.owner)
    until = tx.now + store.settings.job_lease_s
    return bool(tx.execute(update(jobs).where(mine).values(lease_until=until)).rowcount)


def lease_kept(store: Store, claim: Claim) -> contextlib.AbstractContextManager[None]:
    """Renew the lease from a thread for the time of a `with` block."""
    return leases.kept(store, f"job={claim.job_id}", lambda tx: _renewed(store, tx, claim))
