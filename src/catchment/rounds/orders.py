"""What orders carry for the job's algorithms, and which works of a run have counted."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from catchment.jobs.spec import Job
from catchment.store.database import Transaction
from catchment.store.schema import works
from catchment.strategies.plan import strategy_of


def newest_counted(tx: Transaction, uid: str, run: int, before: int | None = None) -> dict[str, Any]:
    """Each site's newest training that a commit of the run has taken: site -> row of id, num_samples.

    Args:
        tx: the transaction.
        uid: of the job.
        run: of the job.
        before: only what commits before this round have taken; None: all.
    """
    taken = (works.c.job_uid == uid) & (works.c.run == run) & works.c.counted_in.is_not(None)
    if before is not None:
        taken &= works.c.counted_in < before
    # One pass: joined with its own groups, thousands of clients' works were gone through for each of them.
    place = func.row_number().over(partition_by=works.c.site, order_by=works.c.counted_in.desc())
    ranked = (
        select(works.c.site, works.c.id, works.c.num_samples, place.label("place")).where(taken).subquery()
    )
    return {row.site: row for row in tx.execute(select(ranked).where(ranked.c.place == 1))}


def algorithms(job: Job) -> dict[str, Any]:
    """What an order says of the job's algorithms: those fields of a WorkOrder."""
    strategy = strategy_of(job)
    told: dict[str, Any] = {
        "strategy": {"name": strategy.name, "params": strategy.params.model_dump()},
        "optimizer": None,
        "loss": None,
        "compression": None,
    }
    for field, chosen in (("optimizer", job.optimizer), ("loss", job.loss)):
        if chosen is not None:
            params = chosen.params.model_dump(exclude_none=True)
            told[field] = {"name": chosen.name, "params": params}
    if job.compression is not None:
        told["compression"] = {"name": job.compression.type, "params": job.compression.params}
    return told
