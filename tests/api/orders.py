"""Work in the store, as a round would have published it."""

from __future__ import annotations

import hashlib

from sqlalchemy import insert

from catchment.jobs.rows import site_topic
from catchment.store import Store
from catchment.store.blobs import put_bytes
from catchment.store.database import Transaction
from catchment.store.schema import works
from catchment.wire.messages import Blob, WorkOrder

REGISTRATION = {"session": "session-1", "address": "10.0.0.1:55051", "runtimes": ["pytorch"]}


def digest_of(data: bytes) -> str:
    """The digest that the wire knows these bytes by."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def offer_work(store: Store, site: str, work_id: str, weights: bytes, *, secured: bool = False) -> str:
    """Offer a site one work whose weights are these bytes; their digest. `secured`: of a job with `ssl`."""
    digest = put_bytes(store.blobs, weights)
    order = WorkOrder(
        work_id=work_id,
        kind="train",
        namespace="default",
        job_id="digits",
        run=1,
        round=1,
        attempt=0,
        runtime="pytorch",
        weights=Blob(digest=digest, size_bytes=len(weights)),
        task_entry="digits",
        seed=1,
        timeout_s=60,
    )
    values = {
        "id": work_id,
        "job_uid": f"{work_id:u<32}",
        "run": 1,
        "round": 1,
        "attempt": 0,
        "kind": "train",
        "site": site,
        "state": "offered",
        "order": order.model_dump(mode="json"),
        "created_at": 1.0,
        "secured": secured,
    }

    def step(tx: Transaction) -> None:
        tx.execute(insert(works).values(**values, deadline=tx.now + 60))
        tx.notify(site_topic(site))

    store.db.write(step)
    return digest
