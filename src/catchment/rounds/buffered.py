"""Which works a round waits for and is made of: its own, or, for FedBuff, whatever no commit has taken yet.

With FedBuff a round closes while sites still train. Their works stay open and belong to a later round; a
site with such a work is not selected again meanwhile, so it has one work at most.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from catchment.jobs.spec import Job
from catchment.jobs.states import AT_SITE, PENDING, WorkState
from catchment.rounds import journal
from catchment.rounds.claim import Claim
from catchment.store.database import Transaction
from catchment.store.schema import works
from catchment.strategies.fedbuff import FedBuff
from catchment.strategies.plan import buffer_size, strategy_of


def round_works(tx: Transaction, claim: Claim, job: Job, number: int, attempt: int) -> list[Row[Any]]:
    """The training works that an attempt at a round waits for or is made of, by site."""
    own = journal.works_of(tx, claim, number, attempt, "train")
    if buffer_size(job) is None:
        return own
    mine = {work.id for work in own}
    carried = [work for work in uncounted(tx, claim) if work.id not in mine]
    return sorted([*own, *carried], key=lambda work: (work.site, work.round))


def uncounted(tx: Transaction, claim: Claim) -> list[Row[Any]]:
    """Training works of the run that are open, or have arrived and were not taken by a commit."""
    return list(
        tx.execute(
            select(works).where(
                works.c.job_uid == claim.uid,
                works.c.run == claim.run,
                works.c.kind == "train",
                works.c.counted_in.is_(None),
                works.c.state.in_((*PENDING, WorkState.ADMITTED)),
            )
        )
    )


def busy_sites(tx: Transaction, claim: Claim, job: Job) -> frozenset[str]:
    """Sites that have such a work of a FedBuff job."""
    if buffer_size(job) is None:
        return frozenset()
    return frozenset(work.site for work in uncounted(tx, claim))


def expire(tx: Transaction, claim: Claim) -> None:
    """Take back what sites have not done within the deadline of the round that it was offered in."""
    over = [work for work in uncounted(tx, claim) if work.state in AT_SITE and tx.now >= work.deadline]
    if over:
        journal.take_back(tx, over, "no result within round_timeout")


def end_stale(tx: Transaction, claim: Claim, job: Job, committed: int) -> None:
    """After a commit, take back the works that would be too old for the next round, or all after the last."""
    strategy = strategy_of(job)
    if not isinstance(strategy, FedBuff):
        return
    left, limit = uncounted(tx, claim), strategy.params.max_staleness
    if committed >= job.hyper_parameters.max_round_num:
        journal.take_back(tx, left, "the job's rounds are over")
        return
    stale = [work for work in left if committed + 1 - work.round > limit]
    if stale:
        journal.take_back(tx, stale, f"more than max_staleness, {limit}, rounds behind")
