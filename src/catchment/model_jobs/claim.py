"""One process at a time works on a ModelJob: it claims it, and proves that with each write."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, update

from catchment.errors import JobStopped, LeaseLost
from catchment.model_jobs import rows
from catchment.model_jobs.states import ENDED, STOPPED, Phase
from catchment.runs import leases
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_jobs


@dataclass(frozen=True)
class ModelJobClaim:
    """A process's right to work on a ModelJob; ids only, so that tasks can pass it on."""

    uid: str
    namespace: str
    name: str
    owner: str


def claim(store: Store, namespace: str, name: str, *, flow_run_id: str, attempt: int) -> ModelJobClaim:
    """Take a ModelJob for a flow run.

    Raises:
        NotFound: no such job.
        JobStopped: it is to stop, or has ended.
        LeaseLost: another flow run works on it.
    """
    owner = f"{flow_run_id}:{attempt}"[:64]

    def step(tx: Transaction) -> ModelJobClaim:
        row = rows.require(tx, namespace, name, lock=True)
        if row.stop_requested or row.phase == Phase.DELETING or row.phase in ENDED:
            raise JobStopped(f"ModelJob {name!r} is {row.phase}")
        over = leases.is_over(tx, row, store.settings.job_lease_s)
        if row.flow_run_id not in (None, flow_run_id) and not over:
            raise LeaseLost(f"flow run {row.flow_run_id} works on ModelJob {name!r}")
        again = row.started_at is not None  # one that was lost is Pending meanwhile
        rows.change(
            tx,
            row.uid,
            phase=Phase.RUNNING,
            message="modelJob running",
            started_at=row.started_at or tx.now,
            flow_run_id=flow_run_id,
            lease_owner=owner,
            lease_until=tx.now + store.settings.job_lease_s,
        )
        told = f"flow run {flow_run_id} works on it{' now: it goes on' if again else ''}"
        rows.event(tx, row.uid, "Resumed" if again else "StartRunning", told)
        rows.line(tx, row.uid, told)
        return ModelJobClaim(row.uid, namespace, name, owner)

    return store.db.write(step)


def held(tx: Transaction, claim: ModelJobClaim) -> Row[Any]:
    """The claimed job's row, locked; every write of its run begins with this.

    Raises:
        JobStopped: somebody asked it to stop, or to be deleted.
        LeaseLost: another process works on it now, or it has ended.
        NotFound: it was deleted.
    """
    row = rows.by_uid(tx, claim.uid, lock=True)
    if row.stop_requested:
        raise JobStopped(row.message or STOPPED)
    if row.lease_owner != claim.owner:
        raise LeaseLost(f"another process works on ModelJob {claim.name!r} now, or it has ended")
    return row


def lease_kept(store: Store, claim: ModelJobClaim) -> contextlib.AbstractContextManager[None]:
    """Renew the lease from a thread for the time of a `with` block."""

    def renew(tx: Transaction) -> bool:
        mine = (model_jobs.c.uid == claim.uid) & (model_jobs.c.lease_owner == claim.owner)
        until = tx.now + store.settings.job_lease_s
        return bool(tx.execute(update(model_jobs).where(mine).values(lease_until=until)).rowcount)

    return leases.kept(store, f"modeljob={claim.name}", renew)


def stop_watched(store: Store, claim: ModelJobClaim) -> contextlib.AbstractContextManager[threading.Event]:
    """An event that is set when the job is to stop, for a step that waits for a child process."""
    topic = rows.topic(claim.uid)
    return leases.stop_watched(store, f"modeljob={claim.name}", topic, lambda tx: held(tx, claim))
