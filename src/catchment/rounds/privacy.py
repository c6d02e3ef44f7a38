"""Differential privacy in a round: the strategy with noise around it, the round's record, the budget."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row

from catchment.jobs import rows
from catchment.jobs.privacy import plan_of
from catchment.jobs.spec import Job
from catchment.jobs.spent import Ledger, ledger_of, over_budget, spent
from catchment.privacy.aggregation import Noised, PrivateSum
from catchment.privacy.noise import NoiseSource
from catchment.privacy.plan import Plan, Selection, finite_or_none
from catchment.rounds import journal
from catchment.rounds.claim import Claim, held
from catchment.rounds.cohort import cohort_size
from catchment.rounds.select import ONGOING, choose
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.strategies.base import LinearStrategy, Strategy


def around(store: Store, claim: Claim, job: Job, strategy: Strategy) -> Strategy:
    """The strategy with the job's clipping and noise around it; itself where the job has none.

    Each call has noise of its own. A process that dies before its commit has shown nobody what it made: the
    weights of a round are named, and so can be fetched, by the transaction that commits it and not before.
    """
    plan = plan_of(job)
    if plan is None:
        return strategy
    if not isinstance(strategy, LinearStrategy) or not strategy.linear:
        raise TypeError(f"{strategy.name} is not linear, and was to be refused with the job")
    last = store.db.read(lambda tx: journal.last_committed(tx, claim.uid, claim.run))
    return PrivateSum(strategy, plan, _clip_norm(plan, last))


def _clip_norm(plan: Plan, last: Row[Any] | None) -> float | None:
    if plan.adaptive is None or last is None or not last.privacy:
        return plan.clip_norm
    following: float | None = last.privacy.get("next_clip_norm")
    return plan.clip_norm if following is None else following


def noised_by_sites(plan: Plan, reports: int) -> Noised:
    """What so many sites together did to a sum that nobody has seen without their noise."""
    std = plan.noise_multiplier * (plan.clip_norm or 0.0) * math.sqrt(reports / plan.threshold)
    return Noised(plan.clip_norm, std, float(plan.cohort), weights=[1.0] * reports)


def record_of(store: Store, claim: Claim, attempt: Row[Any], plan: Plan, noised: Noised) -> dict[str, Any]:
    """What a round's report says of privacy, once it was aggregated.

    It counts the round as committed, and makes the accountant think of the next one before a transaction
    has to wait for it.

    Args:
        store: the store.
        claim: the run.
        attempt: of the round.
        plan: the job's.
        noised: what was done to the sum.
    """
    selection = Selection(**(attempt.privacy or {}).get("selection", {"chosen": 1, "population": 1}))
    ledger = store.db.read(lambda tx: ledger_of(tx, claim.uid))
    release = None if plan.missing else plan.release(selection)
    if release is None:
        ledger = Ledger(ledger.releases, ledger.unprotected + 1, ledger.sent)
    else:
        ledger = Ledger((*ledger.releases, release), ledger.unprotected, ledger.sent)
    if plan.epsilon_budget is not None:
        spent(plan, ledger, selection)
    share = plan.for_site()
    reports = len(noised.weights)
    noise_std = noised.noise_std if share is None else share.noise_std * reports**0.5
    return {
        "selection": asdict(selection),
        "release": None if release is None else asdict(release),
        "placement": plan.placement,
        "clip_norm": noised.clip_norm,
        "noise_multiplier": plan.noise_multiplier,
        "noise_std": finite_or_none(noise_std),
        "mean_noise_std": finite_or_none(noise_std / noised.denominator),
        "denominator": noised.denominator,
        **_followed(plan, noised),
        **spent(plan, ledger).as_json(),
    }


def _followed(plan: Plan, noised: Noised) -> dict[str, Any]:
    """The share of clipped updates, as far as it may be told, and where the clipping norm goes from here."""
    reports = len(noised.weights)
    if plan.adaptive is not None and noised.clip_norm is not None:
        count = (noised.unclipped, reports, plan.cohort)
        source = NoiseSource()
        # Without noise on the sum there is no guarantee that the count could break.
        share = plan.adaptive.noised_share(*count, source) if plan.noise_multiplier else count[0] / count[1]
        following = plan.adaptive.next_norm(noised.clip_norm, share)
        return {"clipped_share": round(1.0 - share, 4), "next_clip_norm": following}
    if plan.missing and noised.clip_norm is not None and plan.placement == "central":
        return {"clipped_share": round(1.0 - noised.unclipped / reports, 4)}
    return {"clipped_share": None}  # who was clipped depends on the data, and no noise is on it


def budget_spent(store: Store, claim: Claim, number: int) -> str:
    """Why a round must not begin, by the job's epsilon_budget; empty when it may, or has begun.

    Raises:
        JobStopped, LeaseLost: as `held`.
    """

    def step(tx: Transaction) -> str:
        row = held(tx, claim, lock=False)
        job = rows.spec_of(row)
        plan = plan_of(job)
        if plan is None or plan.epsilon_budget is None:
            return ""
        known = journal.latest_attempt(tx, claim, number)
        if known is not None and known.state in ONGOING:
            return ""
        return over_budget(tx, claim.uid, job, _expected(store, tx, claim, row, job, number))

    return store.db.read(step)


def _expected(store: Store, tx: Transaction, claim: Claim, row: Row[Any], job: Job, number: int) -> Selection:
    """How the next cohort will come about. Without random draws it does not matter who is there."""
    if not job.random_client:
        return Selection(cohort_size(job), cohort_size(job))
    failed = journal.failed_attempts(tx, claim, number)
    return choose(store, tx, claim, row, number, failed).selection
