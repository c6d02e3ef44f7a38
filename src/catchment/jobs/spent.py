"""What a job's committed rounds have cost in privacy: all its runs together, as they use the same data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row, func, select

from catchment.jobs.privacy import plan_of
from catchment.jobs.spec import Job
from catchment.jobs.states import RoundState
from catchment.privacy.accountant import Release
from catchment.privacy.plan import Plan, Selection, Spent
from catchment.store.database import Transaction
from catchment.store.schema import rounds


@dataclass(frozen=True)
class Ledger:
    """The rounds that count.

    Attributes:
        releases: of each committed round with a guarantee.
        unprotected: how many committed rounds had none.
        sent: how many attempts the sites were asked to train for, committed or not.
    """

    releases: tuple[Release, ...] = ()
    unprotected: int = 0
    sent: int = 0


def ledger_of(tx: Transaction, uid: str) -> Ledger:
    """The ledger of all runs of a job."""
    found = tx.execute(
        select(rounds.c.state, rounds.c.privacy, rounds.c.published_at).where(rounds.c.job_uid == uid)
    ).all()
    records = [row.privacy for row in found if row.state == RoundState.COMMITTED]
    told = [record["release"] for record in records if record and record.get("release")]
    return Ledger(
        releases=tuple(Release(**release) for release in told),
        unprotected=len(records) - len(told),
        sent=sum(row.published_at is not None for row in found),
    )


def spent(plan: Plan, ledger: Ledger, then: Selection | None = None) -> Spent:
    """What the job has cost, or would have cost with one round more."""
    releases = [*ledger.releases, *([plan.release(then)] if then else [])]
    found = plan.spent(releases, sent=max(ledger.sent, len(releases)))
    if ledger.unprotected and not plan.missing:
        words = f"no guarantee: {ledger.unprotected} earlier rounds of the job were committed without one"
        return replace(
            found,
            epsilon=math.inf,
            accountant="none",
            rdp=math.inf,
            epsilon_to_coordinator=math.inf,
            words=words,
        )
    return found


def over_budget(tx: Transaction, uid: str, job: Job, then: Selection) -> str:
    """Why the job may not do another round with such a cohort; empty when it may.

    The accountant's answers are cached: ask once outside of a transaction that others wait for.
    """
    plan = plan_of(job)
    if plan is None or plan.epsilon_budget is None:
        return ""
    ledger = ledger_of(tx, uid)
    after = spent(plan, ledger, then)
    if plan.within_budget(after):
        return ""
    now = spent(plan, ledger)
    return (
        f"epsilon_budget, {plan.epsilon_budget:g}, allows no further round: epsilon is "
        f"{_shown(now.epsilon)} after {len(ledger.releases) + ledger.unprotected} rounds and would be "
        f"{_shown(after.epsilon)} (delta {plan.delta:g})"
    )


def _shown(epsilon: float) -> str:
    return f"{epsilon:.4g}" if math.isfinite(epsilon) else "infinite"


def privacy_views(tx: Transaction, jobs: list[tuple[Row[Any], Job]]) -> dict[str, dict[str, Any]]:
    """The field `privacy` of those of the jobs that have differential privacy, by uid."""
    plans = {row.uid: plan for row, job in jobs if (plan := plan_of(job)) is not None}
    if not plans:
        return {}
    mine = rounds.c.job_uid.in_(plans) & (rounds.c.state == RoundState.COMMITTED)
    newest = (
        select(rounds.c.job_uid, func.max(rounds.c.committed_at).label("at"))
        .where(mine)
        .group_by(rounds.c.job_uid)
        .subquery()
    )
    last = select(rounds.c.job_uid, rounds.c.privacy).join(
        newest, (rounds.c.job_uid == newest.c.job_uid) & (rounds.c.committed_at == newest.c.at)
    )
    views = {uid: _view(plan, None) for uid, plan in plans.items()}
    for row in tx.execute(last):
        views[row.job_uid] = _view(plans[row.job_uid], row.privacy)
    return views


SHOWN = ("epsilon", "delta", "accountant", "rdp_epsilon", "epsilon_to_coordinator", "guarantee")


def _view(plan: Plan, record: dict[str, Any] | None) -> dict[str, Any]:
    told = record or {}
    begun = {key: told[key] for key in SHOWN if key in told}
    return {**(begun or plan.spent([]).as_json()), "epsilon_budget": plan.epsilon_budget}
