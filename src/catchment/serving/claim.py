"""One process at a time drives a rollout: it claims it, and proves that with each write."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, update

from catchment.errors import JobStopped, LeaseLost
from catchment.runs import leases
from catchment.serving import rows
from catchment.serving.states import ENDED, STOPPED, RolloutPhase
from catchment.serving.workload import ServingKey
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import serving_rollouts


@dataclass(frozen=True)
class RolloutClaim:
    """A process's right to drive a rollout; ids only, so that tasks can pass it on."""

    uid: str
    namespace: str
    name: str
    number: int
    owner: str

    @property
    def serving(self) -> ServingKey:
        """The serving that it rolls out."""
        return ServingKey(self.namespace, self.name, self.uid)


def claim(
    store: Store, namespace: str, name: str, number: int, *, flow_run_id: str, attempt: int
) -> RolloutClaim:
    """Take a rollout for a flow run.

    A run that goes on while a person's word is waited for was resumed in Prefect: that is their word.

    Raises:
        NotFound: no such rollout.
        JobStopped: it is to stop, or has ended.
        LeaseLost: another flow run drives it.
    """
    owner = f"{flow_run_id}:{attempt}"[:64]

    def step(tx: Transaction) -> RolloutClaim:
        serving = rows.require(tx, namespace, name, lock=True)
        row = rows.rollout(tx, serving.uid, number, lock=True)
        if row.stop_requested or row.phase in ENDED:
            raise JobStopped(f"rollout {number} of serving {name!r} is {row.phase}")
        over = leases.is_over(tx, row, store.settings.job_lease_s)
        if row.flow_run_id not in (None, flow_run_id) and not over:
            raise LeaseLost(f"flow run {row.flow_run_id} drives rollout {number} of serving {name!r}")
        values: dict[str, Any] = {"phase": RolloutPhase.RUNNING, "message": "rolling out"}
        if row.approval == "asked":
            values |= {"approval": "approved", "approved_by": "Prefect"}
            rows.event(tx, serving.uid, "Approved", f"rollout {number} was resumed in Prefect")
        again = row.started_at is not None
        rows.change_rollout(
            tx,
            serving.uid,
            number,
            started_at=row.started_at or tx.now,
            flow_run_id=flow_run_id,
            lease_owner=owner,
            lease_until=tx.now + store.settings.job_lease_s,
            **values,
        )
        told = f"flow run {flow_run_id} drives rollout {number}{' now: it goes on' if again else ''}"
        rows.event(tx, serving.uid, "Resumed" if again else "RolloutStarted", told)
        return RolloutClaim(serving.uid, namespace, name, number, owner)

    return store.db.write(step)


def held(tx: Transaction, claim: RolloutClaim) -> Row[Any]:
    """The claimed rollout's row, locked; every write of its run begins with this.

    Raises:
        JobStopped: somebody asked it to stop, or the serving is to be deleted.
        LeaseLost: another process drives it now, or it has ended.
        NotFound: the serving was deleted.
    """
    rows.by_uid(tx, claim.uid, lock=True)
    row = rows.rollout(tx, claim.uid, claim.number, lock=True)
    if row.stop_requested:
        raise JobStopped(row.message or STOPPED)
    if row.lease_owner != claim.owner:
        raise LeaseLost(f"another process drives rollout {claim.number} now, or it has ended")
    return row


def lease_kept(store: Store, claim: RolloutClaim) -> contextlib.AbstractContextManager[None]:
    """Renew the lease from a thread for the time of a `with` block."""

    def renew(tx: Transaction) -> bool:
        table = serving_rollouts.c
        mine = (table.serving_uid == claim.uid) & (table.number == claim.number)
        until = tx.now + store.settings.job_lease_s
        statement = update(serving_rollouts).where(mine & (table.lease_owner == claim.owner))
        return bool(tx.execute(statement.values(lease_until=until)).rowcount)

    return leases.kept(store, f"rollout={claim.name}/{claim.number}", renew)


def stop_watched(store: Store, claim: RolloutClaim) -> contextlib.AbstractContextManager[threading.Event]:
    """An event that is set when the rollout is to stop, for a step that waits."""
    named = f"rollout={claim.name}/{claim.number}"
    return leases.stop_watched(store, named, rows.topic(claim.uid), lambda tx: held(tx, claim))
