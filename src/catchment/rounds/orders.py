"""What orders carry for the job's algorithms, and which works of a run have counted."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from catchment.jobs.spec import Job
from catchment.jobs.states import RoundState, WorkState
from catchment.store.database import Transaction
from catchment.store.schema import rounds, works
from catchment.strategies.plan import strategy_of


def work_of_round() -> Any:
    """The condition that joins works with the attempts that they belong to."""
    return (
        (works.c.job_uid == rounds.c.job_uid)
        & (works.c.run == rounds.c.run)
        & (works.c.round == rounds.c.number)
        & (works.c.attempt == rounds.c.attempt)
    )


def newest_admitted(tx: Transaction, uid: str, run: int, before: int | None = None) -> dict[str, Any]:
    """Each site's newest training that was part of a committed round of the run: site -> id, num_samples.

    Args:
        tx: the transaction.
        uid: of the job.
        run: of the job.
        before: only rounds before this one; None: all.
    """
    taken = (
        (works.c.job_uid == uid)
        & (works.c.run == run)
        & (works.c.kind == "train")
        & (works.c.state == WorkState.ADMITTED)
        & (rounds.c.state == RoundState.COMMITTED)
    )
    if before is not None:
        taken &= works.c.round < before
    newest = (
        select(works.c.site, func.max(works.c.round).label("round"))
        .join(rounds, work_of_round())
        .where(taken)
        .group_by(works.c.site)
        .subquery()
    )
    found = tx.execute(
        select(works.c.site, works.c.id, works.c.num_samples)
        .join(newest, (works.c.site == newest.c.site) & (works.c.round == newest.c.round))
        .join(rounds, work_of_round())
        .where(taken)
    )
    return {row.site: row for row in found}


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
