"""Aggregation of a collected round: the strategy, what it knows of the round, and the blobs it makes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Row

from catchment.jobs import rows
from catchment.jobs.privacy import plan_of
from catchment.jobs.secure import is_secure
from catchment.jobs.spec import Job
from catchment.models.tensors import TensorFile, TensorWriter, write_tensors
from catchment.privacy.aggregation import PrivateSum
from catchment.rounds import journal, privacy
from catchment.rounds.admission import dominating
from catchment.rounds.claim import Claim
from catchment.rounds.cohort import invited, misfit
from catchment.rounds.orders import newest_counted
from catchment.rounds.secure_sum import SummedStrategy, secure_warnings, unmasked_sum
from catchment.rounds.updates import Admitted
from catchment.store import Store
from catchment.store.blobs import keep_staged, new_staged_file
from catchment.store.database import Transaction
from catchment.strategies import partial
from catchment.strategies.base import Context, LinearStrategy, Strategy
from catchment.strategies.plan import sent_by, strategy_of

STRATEGY_KEY = "strategy"
"""Where a state's file says whose it is."""


@dataclass(frozen=True)
class Aggregated:
    """What an aggregation made.

    Attributes:
        weights: digest of the new global weights.
        state: digest of the strategy's new state; None for strategies without one.
        metrics: what the strategy says of the round.
        warnings: sentences for the job's log.
        privacy: what differential privacy did, and has cost with this round; None without it.
        num_samples: of all sites together, where nothing else tells it (secure aggregation).
    """

    weights: str
    state: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    privacy: dict[str, Any] | None = None
    num_samples: int | None = None


def aggregate_round(
    store: Store, claim: Claim, row: Row[Any], attempt: Row[Any], admitted: list[Row[Any]]
) -> Aggregated:
    """Aggregate the admitted updates of an attempt with the job's strategy.

    Raises:
        BadTensors: the new weights would not be finite; nothing is left behind.
    """
    job = rows.spec_of(row)
    context = store.db.read(lambda tx: context_of(store, tx, claim, row, attempt, admitted))
    if is_secure(job):
        return _aggregate_secure(store, claim, context, row, attempt, admitted)
    strategy = privacy.around(store, claim, job, strategy_of(job))
    made = aggregate(store, job, context, attempt.weights, attempt.state_before, admitted, strategy)
    if not isinstance(strategy, PrivateSum):
        return replace(made, warnings=(*made.warnings, *_dominating(strategy, admitted)))
    return replace(made, privacy=privacy.record_of(store, claim, attempt, strategy.plan, strategy.noised))


def _dominating(strategy: Strategy, admitted: list[Row[Any]]) -> tuple[str, ...]:
    by_samples = isinstance(strategy, LinearStrategy) and strategy.weighting == "samples"
    return dominating({work.site: work.num_samples for work in admitted}) if by_samples else ()


def _aggregate_secure(
    store: Store, claim: Claim, context: Context, row: Row[Any], attempt: Row[Any], admitted: list[Row[Any]]
) -> Aggregated:
    job = rows.spec_of(row)
    with TensorFile.open(store.blobs.local_path(attempt.weights)) as weights:
        found = unmasked_sum(store, row, attempt, admitted, weights.signature)
    inner = strategy_of(job)
    if not isinstance(inner, LinearStrategy):
        raise TypeError(f"{inner.name} is not linear; `strategies.plan.check` refuses it")
    plan = plan_of(job)
    summed = SummedStrategy(inner, found, plan.cohort if plan else None)
    made = aggregate(store, job, context, attempt.weights, attempt.state_before, [], summed)
    if plan is not None:
        noised = privacy.noised_by_sites(plan, found.num_sites)
        return replace(made, privacy=privacy.record_of(store, claim, attempt, plan, noised))
    return replace(made, num_samples=found.num_samples, warnings=(*made.warnings, *secure_warnings(found)))


def context_of(
    store: Store, tx: Transaction, claim: Claim, row: Row[Any], attempt: Row[Any], admitted: list[Row[Any]]
) -> Context:
    """What the strategy knows of a round, without its state."""
    job = rows.spec_of(row)
    told = Context(
        round_number=attempt.number,
        learning_rate=job.hyper_parameters.learning_rate,
        staleness={work.site: attempt.number - work.round for work in admitted},
    )
    if not strategy_of(job).counts_everybody:
        return told
    # A site that is away for a while is still one of those that the job may use.
    registered = [replace(site, online=True) for site in journal.candidates(store, tx, row.uid)]
    population = [site for site in invited(job, registered) if not misfit(job, site, row.trusted_roots)]
    before = newest_counted(tx, claim.uid, claim.run, attempt.number)
    samples = {site: work.num_samples for site, work in before.items()}
    samples |= {work.site: work.num_samples for work in admitted}
    samples = {site: number for site, number in samples.items() if number is not None}  # else: masked
    sites = len(job.client_labels) or len(population)
    return replace(told, population=sites, samples=samples)


def aggregate(
    store: Store,
    job: Job,
    context: Context,
    weights_digest: str,
    state_digest: str | None,
    admitted: list[Row[Any]],
    around: Strategy | None = None,
) -> Aggregated:
    """New weights and state as blobs, from those that the round began with and its updates, in site order.

    Args:
        store: the store.
        job: the job.
        context: what the strategy knows of the round, without its state.
        weights_digest: the weights that the round began with.
        state_digest: the state that it began with.
        admitted: the works whose updates take part.
        around: takes the place of the job's strategy, around which it stands.
    """
    strategy, staged = around or strategy_of(job), new_staged_file(store.blobs)
    with contextlib.ExitStack() as files:
        weights = files.enter_context(TensorFile.open(store.blobs.local_path(weights_digest)))
        if state_digest is not None:
            state = files.enter_context(TensorFile.open(store.blobs.local_path(state_digest)))
            # A job whose strategy was changed between two starts does not go on from the other's state.
            if state.metadata.get(STRATEGY_KEY) == strategy.name:
                context = replace(context, state=state)
        cohort = Admitted(store, admitted, job.compression, sent_by(strategy, weights.signature))
        with TensorWriter.create(staged, weights.signature) as writer:
            outcome = partial.aggregate(strategy, cohort, weights, context, writer)
    digest = keep_staged(store.blobs, staged)
    kept = _keep_state(store, strategy, outcome.state) if outcome.state else None
    return Aggregated(digest, kept, outcome.metrics, outcome.warnings)


def _keep_state(store: Store, strategy: Strategy, arrays: dict[str, Any]) -> str:
    staged = new_staged_file(store.blobs)
    write_tensors(staged, arrays, {STRATEGY_KEY: strategy.name})
    return keep_staged(store.blobs, staged)
