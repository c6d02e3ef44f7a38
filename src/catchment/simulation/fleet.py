"""The fleet of a simulated job: its clients as sites of the store, and the works that they are offered."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from catchment.errors import CatchmentError
from catchment.exchange.results import GIVEN, values_of
from catchment.jobs import log, purge, rows
from catchment.jobs.privacy import shows_sites
from catchment.jobs.rows import site_topic, spec_of, topic
from catchment.jobs.spec import Job
from catchment.jobs.states import AT_SITE, WorkState
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import jobs, sites, works
from catchment.wire.messages import Blob, Registration, Resource, SiteResources, WorkOrder, WorkResult

log_of_process = logging.getLogger(__name__)
MAX_CLIENTS = 100_000
SHOWN_FAILURES = 20
"""So many failures of a chunk are written to the job's log, so that a broken script does not flood it."""


@dataclass(frozen=True)
class Fleet:
    """The simulated clients of one job.

    Attributes:
        uid: of the job.
        names: the clients' site names, sorted; the same for the same namespace, job id and number.
    """

    uid: str
    names: tuple[str, ...]

    @property
    def topics(self) -> list[str]:
        """What to listen to for new work."""
        return sorted({site_topic(name) for name in self.names})


def client_names(namespace: str, job_id: str, number: int) -> tuple[str, ...]:
    """Names that no other job's clients have. Seeds depend on them, so they depend on nothing random."""
    mark = hashlib.sha256(f"{namespace}/{job_id}".encode()).hexdigest()[:10]
    return tuple(f"sim-{mark}-{index:06d}" for index in range(number))


def muster(store: Store, namespace: str, job_id: str, number: int) -> Fleet:
    """Register the clients of a job, and forget those of an earlier simulation of it.

    Raises:
        NotFound: no such job.
    """
    names = client_names(namespace, job_id, number)

    def step(tx: Transaction) -> Fleet:
        row = rows.require(tx, namespace, job_id, lock=True)
        job = rows.spec_of(row)
        registration = _registration(job).model_dump(mode="json")
        tx.execute(delete(sites).where(sites.c.simulates == row.uid))
        tx.execute(
            insert(sites),
            [
                {
                    "name": name,
                    "address": registration["address"],
                    "session": "simulation",
                    "registration": registration,
                    "registered_at": tx.now,
                    "last_seen": tx.now,
                    "simulates": row.uid,
                }
                for name in names
            ],
        )
        return Fleet(row.uid, names)

    return store.db.write(step)


def _registration(job: Job) -> Registration:
    """A site that fits the job, whatever it asks for; alike for all clients."""
    resource = Resource(**job.resource.model_dump())
    workers = resource.worker_num
    return Registration(
        session="simulation",
        address="simulated",
        runtimes=(job.runtime,),
        datasets=tuple(job.dataset_names),
        entries=(job.task_entry,) if job.task_entry else (),
        resources=SiteResources(
            cpu=workers * resource.cpu, memory_mb=workers * resource.memory, gpu=workers * resource.gpu
        ),
        max_task_parallelism=-1,
        allow_scripts="always",
    )


@contextmanager
def kept_alive(store: Store, fleet: Fleet) -> Iterator[None]:
    """Give all clients' sign of life from a thread for the time of a `with` block."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(store.settings.site_lease_s / 4):
            try:
                store.db.write(lambda tx: _seen(tx, fleet))
            except CatchmentError as error:
                log_of_process.warning("job=%s no sign of life given: %s", fleet.uid, error)

    thread = threading.Thread(target=keep, name=f"fleet-{fleet.uid}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)


def _seen(tx: Transaction, fleet: Fleet) -> None:
    tx.execute(update(sites).where(sites.c.simulates == fleet.uid).values(last_seen=tx.now))


def disband(store: Store, fleet: Fleet) -> None:
    """Remove the clients; open work of theirs is lost."""

    def step(tx: Transaction) -> None:
        open_works = (works.c.job_uid == fleet.uid) & works.c.state.in_(AT_SITE)
        values = {"state": WorkState.LOST, "reason": "the simulation has ended", "finished_at": tx.now}
        tx.execute(update(works).where(open_works).values(**values))
        tx.execute(delete(sites).where(sites.c.simulates == fleet.uid))
        tx.notify(topic(fleet.uid))

    store.db.write(step)


def take(store: Store, fleet: Fleet, running: Collection[str]) -> list[str]:
    """Ids of the works to do now, in the order of their clients.

    Works that an earlier process took and did not end are taken again.

    Args:
        store: the store.
        fleet: the clients.
        running: works that were taken before and are under way.
    """

    def step(tx: Transaction) -> list[str]:
        mine = (works.c.job_uid == fleet.uid) & works.c.state.in_(AT_SITE)
        found = tx.execute(select(works.c.id).where(mine).order_by(works.c.kind, works.c.site)).scalars()
        due = [work_id for work_id in found if work_id not in running]
        if due:
            fresh = (works.c.job_uid == fleet.uid) & (works.c.state == WorkState.OFFERED)
            tx.execute(update(works).where(fresh).values(state=WorkState.ACCEPTED, accepted_at=tx.now))
        return due

    return store.db.write(step)


def orders(store: Store, ids: Sequence[str]) -> list[tuple[str, WorkOrder]]:
    """Site and order of each of these works that is still wanted."""

    def step(tx: Transaction) -> list[tuple[str, WorkOrder]]:
        wanted = works.c.id.in_(ids) & works.c.state.in_(AT_SITE)
        return [
            (
                row.site,
                WorkOrder.model_validate(
                    {**row.order, "work_id": row.id, "timeout_s": max(0.0, row.deadline - tx.now)}
                ),
            )
            for row in tx.execute(
                select(works.c.id, works.c.site, works.c.order, works.c.deadline)
                .where(wanted)
                .order_by(works.c.kind, works.c.site)
            )
        ]

    return store.db.read(step)


def deliver(store: Store, uid: str, results: Sequence[tuple[str, WorkResult]]) -> int:
    """Write down how works ended, all in one transaction; how many of them counted.

    The blobs that the results name are in the store already. Works that are not wanted any more, or were
    delivered before, stay as they are.
    """
    if not results:
        return 0

    def step(tx: Transaction) -> int:
        purge.hold_blobs(store, tx, {blob.digest for _, result in results for blob in _blobs(result)})
        log.lock(tx, uid)
        ids = [work_id for work_id, _ in results]
        found = tx.execute(
            select(works.c.id, works.c.state, works.c.site, works.c.run, works.c.round, works.c.kind)
            .where(works.c.id.in_(ids))
            .with_for_update()
        )
        known = {row.id: row for row in found if row.state in AT_SITE and row.state not in GIVEN}
        counted = [(known[work_id], result) for work_id, result in results if work_id in known]
        if not counted:
            return 0
        job = tx.execute(select(jobs).where(jobs.c.uid == uid)).first()
        if job is not None and not shows_sites(spec_of(job)):
            counted = [(work, result.model_copy(update={"log_tail": ""})) for work, result in counted]
        statement = update(works).where(works.c.id == bindparam("work_id"))
        tx.execute(statement, [_row(work.id, result, tx.now) for work, result in counted])
        failed = [(work, result) for work, result in counted if result.status == "failed"]
        lines = [
            log.Line(f"{work.kind} failed: {result.reason}", "error", work.site, work.run, work.round)
            for work, result in failed[:SHOWN_FAILURES]
        ]
        log.write(tx, uid, *lines)
        tx.notify(topic(uid))
        return len(counted)

    return store.db.write(step)


def _blobs(result: WorkResult) -> list[Blob]:
    return [blob for blob in (result.update, result.files) if blob is not None]


def give_up(store: Store, fleet: Fleet, ids: Sequence[str], reason: str) -> int:
    """End works whose chunk could not be done; how many were still open."""
    result = WorkResult(status="failed", reason=f"the chunk of clients failed: {reason}"[:2000])
    return deliver(store, fleet.uid, [(work_id, result) for work_id in ids])


def _row(work_id: str, result: WorkResult, now: float) -> dict[str, Any]:
    update_blob, files = result.update, result.files
    return {
        "work_id": work_id,
        **values_of(result, now),
        "update": update_blob.digest if update_blob else None,
        "update_bytes": update_blob.size_bytes if update_blob else 0,
        "files": files.digest if files else None,
        "files_bytes": files.size_bytes if files else 0,
    }
