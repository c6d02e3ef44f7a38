"""Works in the store without a job around them, and sites that ask for them."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import insert, select, update

from catchment.exchange import sites, transfer
from catchment.jobs.rows import site_topic
from catchment.store import Store
from catchment.store.blobs import put_bytes
from catchment.store.schema import works
from catchment.wire.messages import PollAnswer, PollRequest, Registration, SiteResources

DATA = bytes(range(256)) * 40


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def registration(session: str = "session-1", **changes: Any) -> Registration:
    return Registration(
        **{
            "session": session,
            "address": "10.0.0.1:50051",
            "runtimes": ("pytorch",),
            "datasets": ("digits",),
            "resources": SiteResources(cpu=4, memory_mb=4000),
            **changes,
        }
    )


def order(store: Store, **changes: Any) -> dict[str, Any]:
    weights = b"weights of the round"
    return {
        "kind": "train",
        "namespace": "default",
        "job_id": "j",
        "run": 1,
        "round": 1,
        "attempt": 0,
        "runtime": "pytorch",
        "weights": {"digest": put_bytes(store.blobs, weights), "size_bytes": len(weights)},
        "task_entry": "train",
        "seed": 1,
        **changes,
    }


def offer(store: Store, site: str, *, state: str = "offered", kind: str = "train", **changes: Any) -> str:
    """Offer a work; its id."""
    work_id = uuid.uuid4().hex
    values = {
        "id": work_id,
        "job_uid": uuid.uuid4().hex,
        "run": 1,
        "round": 1,
        "attempt": 0,
        "kind": kind,
        "site": site,
        "state": state,
        "order": order(store, kind=kind),
        "deadline": store.db.clock() + 60,
        "created_at": store.db.clock(),
        **changes,
    }

    def step(tx: Any) -> None:
        tx.execute(insert(works).values(**values))
        tx.notify(site_topic(site))

    store.db.write(step)
    return work_id


def close(store: Store, work_id: str, state: str, reason: str = "") -> None:
    """Move a work as a round does."""

    def step(tx: Any) -> None:
        row = tx.execute(select(works).where(works.c.id == work_id)).one()
        tx.execute(update(works).where(works.c.id == work_id).values(state=state, reason=reason))
        tx.notify(site_topic(row.site))

    store.db.write(step)


def work(store: Store, work_id: str) -> Any:
    return store.db.read(lambda tx: tx.execute(select(works).where(works.c.id == work_id)).one())


def ask(
    store: Store,
    site: str,
    *,
    session: str = "session-1",
    free: int = 1,
    holding: Sequence[str] = (),
    wait_s: float = 0,
) -> PollAnswer:
    """One poll that does not wait unless told to."""
    request = PollRequest(session=session, free=free, holding=tuple(holding), wait_s=wait_s)
    if not wait_s:
        return sites.answer_now(store, site, request)
    return asyncio.run(sites.poll(store, site, request))


def ids(answer: PollAnswer) -> list[str]:
    return [each.work_id for each in answer.work]


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def send(
    store: Store,
    site: str,
    work_id: str,
    part: bytes = DATA,
    *,
    start: int = 0,
    total: int | None = None,
    digest: str | None = None,
) -> int:
    """Upload one chunk."""
    return asyncio.run(
        transfer.receive(
            store,
            site,
            work_id,
            start=start,
            total=len(DATA) if total is None else total,
            digest=digest or digest_of(DATA),
            chunks=pieces(part),
        )
    )
