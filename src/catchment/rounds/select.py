"""Selecting a round's cohort, with a deadline and a reason while sites are missing."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Row

from catchment import faults
from catchment.errors import BudgetSpent, NotFound, RoundFailed
from catchment.exchange.silence import nobody_is_heard
from catchment.exchange.sites import SITES_TOPIC
from catchment.jobs import log, rows
from catchment.jobs.privacy import plan_of
from catchment.jobs.spec import Job
from catchment.jobs.spent import over_budget
from catchment.jobs.states import RoundState
from catchment.privacy.plan import Selection
from catchment.rounds import journal
from catchment.rounds.buffered import busy_sites
from catchment.rounds.claim import Claim, held
from catchment.rounds.cohort import (
    Candidate,
    cohort_size,
    invited,
    misfit,
    rule_of,
    sample_cohort,
    selection_of,
    unknown_labels,
)
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.strategies.plan import strategy_of

MAX_ATTEMPTS = 2
"""A round below its threshold is tried once more with a new cohort."""
ONGOING = (RoundState.SELECTED, RoundState.OPEN, RoundState.COMMITTED)


def select_cohort(store: Store, claim: Claim, number: int) -> list[str]:
    """The cohort of a round: the one that is written down, or a new one as soon as enough sites are there.

    Raises:
        RoundFailed: the round has failed as often as it may, or too few sites came in time.
        BudgetSpent: the round would cost more privacy than the job may.
        JobStopped, LeaseLost: as `held`.
    """
    began, limit_s = time.monotonic(), 0.0
    while True:
        ticket = store.db.signals.ticket(SITES_TOPIC, rows.topic(claim.uid))
        cohort, missing, wait_s = store.db.write(lambda tx: _try_to_select(store, tx, claim, number))
        if cohort is not None:
            faults.reach("after_select")
            return cohort
        limit_s = max(limit_s, wait_s)
        left = began + limit_s - time.monotonic()
        if left <= 0:
            raise RoundFailed(f"{missing}; waited {limit_s:g} s")
        store.db.signals.wait(ticket, min(left, 1.0))


def _try_to_select(
    store: Store, tx: Transaction, claim: Claim, number: int
) -> tuple[list[str] | None, str, float]:
    row = held(tx, claim)
    known = journal.latest_attempt(tx, claim, number)
    if known is not None and known.state in ONGOING:
        return list(known.cohort), "", 0.0
    job = rows.spec_of(row)
    failed = journal.failed_attempts(tx, claim, number)
    if len(failed) >= MAX_ATTEMPTS:
        raise RoundFailed(failed[-1].reason)
    choice = choose(store, tx, claim, row, number, failed)
    cohort, missing = choice.cohort, choice.missing
    if cohort is None:
        if row.reason != missing:
            rows.change(tx, claim.uid, reason=missing, waits_for_sites=True)
            log.write(tx, claim.uid, log.Line(missing, "warning", run=claim.run, round=number))
        return None, missing, _patience_s(store, tx, job)
    if spent := over_budget(tx, claim.uid, job, choice.selection):
        raise BudgetSpent(spent)
    attempt = known.attempt + 1 if known is not None else 0
    weights, state = current_weights(tx, claim, row)
    journal.open_attempt(
        tx,
        claim,
        number,
        attempt,
        cohort,
        weights,
        rule_of(job, len(cohort)),
        state,
        selection_record(job, choice.selection),
    )
    if row.reason or row.waits_for_sites:
        rows.change(tx, claim.uid, reason="", waits_for_sites=False)
    return cohort, "", 0.0


def _patience_s(store: Store, tx: Transaction, job: Job) -> float:
    """How long to wait for sites. An outage of the coordinator may well be longer than a round."""
    if nobody_is_heard(tx, store.settings.site_lease_s):
        return store.settings.cohort_wait_s
    return min(store.settings.cohort_wait_s, job.hyper_parameters.round_timeout)


@dataclass(frozen=True)
class Choice:
    """A cohort, or None and what is missing.

    Attributes:
        cohort: names of sites, sorted.
        missing: why there is no cohort.
        selection: how the cohort came about.
    """

    cohort: list[str] | None
    missing: str
    selection: Selection


def choose(
    store: Store, tx: Transaction, claim: Claim, row: Row[Any], number: int, failed: list[Row[Any]]
) -> Choice:
    """A cohort, or what is missing.

    Under differential privacy nobody can foresee it: what is drawn at random counts for the guarantee, and
    the job's seed is no secret. What was drawn is written down, so a resumed round has the same cohort.
    """
    job = rows.spec_of(row)
    sites = invited(job, journal.candidates(store, tx, row.uid))
    reasons = {site.name: misfit(job, site, row.trusted_roots) for site in sites}
    busy = busy_sites(tx, claim, job)
    fitting = [site for site in sites if not reasons[site.name] and site.name not in busy]
    needed = sites_needed(job, number, begun=bool(failed)) - len(busy)
    selection = selection_of(job, min(cohort_size(job), len(fitting)), len(fitting), again=bool(failed))
    if len(fitting) < needed:
        missing = _missing(number, needed, fitting, reasons, unknown_labels(job, sites))
        return Choice(None, missing, selection)
    before = failed[-1] if failed else None
    cohort = sample_cohort(
        job,
        fitting,
        seed=secrets.randbits(64) if plan_of(job) is not None else job.seed or 0,
        round_number=number,
        attempt=len(failed),
        trained=journal.times_trained(tx, claim) if job.untrained_first else {},
        failed_before=_failed_sites(tx, claim, before),
        busy=len(busy),
    )
    return Choice(cohort, "", selection)


def selection_record(job: Job, selection: Selection) -> dict[str, Any] | None:
    """What a selected attempt keeps for the accountant; None without differential privacy."""
    return {"selection": asdict(selection)} if plan_of(job) is not None else None


def sites_needed(job: Job, number: int, *, begun: bool) -> int:
    """client_num for a job's first round to begin; later rounds begin with the threshold."""
    hyper = job.hyper_parameters
    return hyper.client_num if number == 1 and not begun else hyper.threshold_client_num


def _failed_sites(tx: Transaction, claim: Claim, before: Row[Any] | None) -> frozenset[str]:
    if before is None:
        return frozenset()
    found = journal.works_of(tx, claim, before.number, before.attempt, "train")
    return frozenset(work.site for work in found if work.state not in ("admitted", "late"))


def _missing(
    number: int, needed: int, fitting: list[Candidate], reasons: dict[str, str], unknown: list[str]
) -> str:
    told = [f"{name} {reason}" for name, reason in reasons.items() if reason]
    told += [f"{label} has not registered" for label in unknown]
    more = f"; and {len(told) - 8} more" if len(told) > 8 else ""
    detail = f" ({'; '.join(told[:8])}{more})" if told else ""
    there = ", ".join(site.name for site in fitting[:8]) or "none"
    return f"round {number} waits for {needed} sites that fit, {len(fitting)} there: {there}{detail}"


def current_weights(tx: Transaction, claim: Claim, row: Row[Any]) -> tuple[str, str | None]:
    """Digests of the run's global weights and of its strategy's state, if it has one.

    Raises:
        NotFound: the run was not prepared yet.
    """
    last = journal.last_committed(tx, claim.uid, claim.run)
    weights = last.new_weights if last is not None else row.initial_weights
    if weights is None:
        raise NotFound(f"run {claim.run} of job {claim.job_id!r} has no initial weights yet")
    return str(weights), last.new_state if last is not None else row.initial_state


def publish_work(store: Store, claim: Claim, number: int) -> int:
    """Offer the round's work to its cohort; the number of works. Published work is left as it is."""

    def step(tx: Transaction) -> int:
        row = held(tx, claim)
        attempt = journal.latest_attempt(tx, claim, number)
        if attempt is None:
            raise NotFound(f"round {number} of job {claim.job_id!r} has no cohort yet")
        if attempt.state == RoundState.SELECTED:
            open_round(store, tx, row, attempt)
        return len(attempt.cohort)

    known = store.db.read(lambda tx: journal.latest_attempt(tx, claim, number))
    if known is not None and known.state == RoundState.SELECTED:
        store.blobs.size(known.weights)  # a storage that hangs does it here, and not while rows are locked
    published = store.db.write(step)
    faults.reach("after_publish")
    return published


def open_round(store: Store, tx: Transaction, job_row: Row[Any], attempt: Row[Any]) -> None:
    """Offer the works of a selected attempt; its deadline runs from now."""
    job = rows.spec_of(job_row)
    deadline = tx.now + job.hyper_parameters.round_timeout
    journal.publish_works(
        store,
        tx,
        job_row,
        kind="train",
        number=attempt.number,
        attempt=attempt.attempt,
        cohort=attempt.cohort,
        weights=attempt.weights,
        deadline=deadline,
        state=attempt.state_before if strategy_of(job).broadcasts_state else None,
    )
    journal.change_round(tx, attempt, state=RoundState.OPEN, published_at=tx.now, deadline=deadline)


def begin_round(
    store: Store,
    tx: Transaction,
    claim: Claim,
    row: Row[Any],
    number: int,
    weights: str,
    state: str | None,
    *,
    publish: bool,
) -> None:
    """Select and publish a round if its sites are there and its privacy budget allows it.

    Otherwise its select task waits for them, or the flow finds that the run is over.
    """
    job, choice = rows.spec_of(row), choose(store, tx, claim, row, number, failed=[])
    if choice.cohort is None or over_budget(tx, claim.uid, job, choice.selection):
        return
    rule, selection = rule_of(job, len(choice.cohort)), selection_record(job, choice.selection)
    journal.open_attempt(tx, claim, number, 0, choice.cohort, weights, rule, state, selection)
    attempt = journal.latest_attempt(tx, claim, number)
    if attempt is not None and publish:
        open_round(store, tx, row, attempt)


def begin_ahead(store: Store, claim: Claim) -> None:
    """Begin the run's next round if it has not begun and its sites are there: they train meanwhile.

    What a commit does for the round after it. A round with a broadcast function waits for that.

    Raises:
        JobStopped, LeaseLost: as `held`.
    """

    def step(tx: Transaction) -> None:
        row = held(tx, claim)
        job = rows.spec_of(row)
        last = journal.last_committed(tx, claim.uid, claim.run)
        number = last.number + 1 if last is not None else 1
        known = journal.latest_attempt(tx, claim, number)
        begun = known is not None or number > job.hyper_parameters.max_round_num
        if not begun and "broadcast" not in job.extender_functions:
            begin_round(store, tx, claim, row, number, *current_weights(tx, claim, row), publish=True)

    store.db.write(step)
