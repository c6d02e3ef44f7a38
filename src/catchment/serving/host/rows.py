"""The rows between the local backend and serving hosts: what is to run, and what runs where."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from catchment.serving.host.replica import Seen
from catchment.serving.host.topics import ROUTES
from catchment.serving.workload import Workload
from catchment.store.database import Transaction
from catchment.store.schema import serving_endpoints, serving_workloads

log = logging.getLogger(__name__)
ReplicaId = tuple[str, str, int]
"""Serving's uid, workload's key, number."""


@dataclass(frozen=True)
class Wanted:
    """A workload's row."""

    workload: Workload
    removing: bool
    created_at: float

    @property
    def id(self) -> tuple[str, str]:
        """The row's key."""
        return self.workload.serving.uid, self.workload.key


def workloads(tx: Transaction, uid: str | None = None) -> list[Wanted]:
    """All workloads, or those of one serving, oldest first; one that this version cannot read is left out."""
    statement = select(serving_workloads).order_by(
        serving_workloads.c.created_at, serving_workloads.c.serving_uid, serving_workloads.c.key
    )
    if uid is not None:
        statement = statement.where(serving_workloads.c.serving_uid == uid)
    found = []
    for row in tx.execute(statement):
        try:
            found.append(Wanted(Workload.from_json(row.spec), row.removing, row.created_at))
        except (KeyError, TypeError) as error:
            log.warning("workload %s is of another version of Catchment: %s", row.key, error)
    return found


def workload(tx: Transaction, uid: str, key: str, *, lock: bool = False) -> Wanted | None:
    """One workload; with `lock` nobody else changes it until the transaction ends."""
    mine = (serving_workloads.c.serving_uid == uid) & (serving_workloads.c.key == key)
    statement = select(serving_workloads).where(mine)
    row = tx.execute(statement.with_for_update() if lock else statement).first()
    return None if row is None else Wanted(Workload.from_json(row.spec), row.removing, row.created_at)


def put_workload(tx: Transaction, wanted: Workload) -> None:
    """Have it run as described; whatever was said of its removal is taken back."""
    uid, key = wanted.serving.uid, wanted.key
    if workload(tx, uid, key, lock=True) is None:
        values = {"serving_uid": uid, "key": key, "spec": wanted.to_json(), "created_at": tx.now}
        tx.execute(insert(serving_workloads).values(removing=False, **values))
    else:
        mine = (serving_workloads.c.serving_uid == uid) & (serving_workloads.c.key == key)
        tx.execute(update(serving_workloads).where(mine).values(spec=wanted.to_json(), removing=False))


def remove_workloads(tx: Transaction, uid: str, keys: Iterable[str] | None = None) -> None:
    """Have these workloads of a serving, or all, drained and ended; what no host has begun goes at once."""
    mine = serving_workloads.c.serving_uid == uid
    if keys is not None:
        mine &= serving_workloads.c.key.in_(list(keys))
    found = tx.execute(select(serving_workloads.c.key).where(mine).with_for_update()).scalars().all()
    begun = {row.key for row in endpoints(tx, uid)}
    tx.execute(update(serving_workloads).where(mine).values(removing=True))
    idle = [key for key in found if key not in begun]
    tx.execute(delete(serving_workloads).where(mine & serving_workloads.c.key.in_(idle)))


def forget_workload(tx: Transaction, uid: str, key: str) -> bool:
    """Remove a workload that is to be removed and whose processes are gone; whether it was so."""
    found = workload(tx, uid, key, lock=True)
    if found is None or not found.removing:
        return False
    mine = (serving_workloads.c.serving_uid == uid) & (serving_workloads.c.key == key)
    tx.execute(delete(serving_workloads).where(mine))
    tx.notify(ROUTES)
    return True


def endpoints(tx: Transaction, uid: str | None = None, key: str | None = None) -> list[Row[Any]]:
    """The rows of replicas, of one serving or workload where it is named, in order."""
    statement = select(serving_endpoints).order_by(
        serving_endpoints.c.serving_uid, serving_endpoints.c.key, serving_endpoints.c.replica
    )
    if uid is not None:
        statement = statement.where(serving_endpoints.c.serving_uid == uid)
    if key is not None:
        statement = statement.where(serving_endpoints.c.key == key)
    return list(tx.execute(statement))


def write_endpoints(tx: Transaction, host: str, seen: Mapping[ReplicaId, Seen]) -> None:
    """Write down how replicas are; one that is gone, or whose workload is, has no row."""
    uids = {uid for uid, _, _ in seen}
    mine = serving_workloads.c.serving_uid.in_(uids)
    columns = (serving_workloads.c.serving_uid, serving_workloads.c.key)
    known = {tuple(row) for row in tx.execute(select(*columns).where(mine).with_for_update())}
    for (uid, key, number), each in seen.items():
        row = _endpoint(uid, key, number)
        if each.state == "gone":
            tx.execute(delete(serving_endpoints).where(row))
            continue
        values = {**each.__dict__, "host": host, "updated_at": tx.now}
        changed = tx.execute(update(serving_endpoints).where(row).values(**values))
        if changed.rowcount == 0 and (uid, key) in known:
            names = {"serving_uid": uid, "key": key, "replica": number}
            tx.execute(insert(serving_endpoints).values(**names, **values))
    tx.notify(ROUTES)


def delete_endpoints(tx: Transaction, ids: Iterable[ReplicaId]) -> None:
    """Remove the rows of replicas that are not there."""
    for each in ids:
        tx.execute(delete(serving_endpoints).where(_endpoint(*each)))
        tx.notify(ROUTES)


def _endpoint(uid: str, key: str, number: int) -> Any:
    table = serving_endpoints.c
    return (table.serving_uid == uid) & (table.key == key) & (table.replica == number)
