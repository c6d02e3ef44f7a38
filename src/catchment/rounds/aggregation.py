"""Aggregation of a collected round: the strategy, what it knows of the round, and the blobs it makes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Row, select

from catchment.jobs import rows
from catchment.jobs.spec import Job
from catchment.jobs.states import RoundState, WorkState
from catchment.models.tensors import TensorFile, TensorWriter, write_tensors
from catchment.rounds import journal
from catchment.rounds.claim import Claim
from catchment.rounds.cohort import invited, misfit
from catchment.rounds.updates import Admitted
from catchment.store import Store
from catchment.store.blobs import keep_staged, new_staged_file
from catchment.store.database import Transaction
from catchment.store.schema import rounds, works
from catchment.strategies import partial
from catchment.strategies.base import Context, Strategy
from catchment.strategies.plan import strategy_of
from catchment.strategies.vectors import sent_signature

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
    """

    weights: str
    state: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def aggregate_round(
    store: Store, claim: Claim, row: Row[Any], attempt: Row[Any], admitted: list[Row[Any]]
) -> Aggregated:
    """Aggregate the admitted updates of an attempt with the job's strategy.

    Raises:
        BadTensors: the new weights would not be finite; nothing is left behind.
    """
    job = rows.spec_of(row)
    context = store.db.read(lambda tx: context_of(store, tx, claim, row, attempt, admitted))
    return aggregate(store, job, context, attempt.weights, attempt.state_before, admitted)


def context_of(
    store: Store, tx: Transaction, claim: Claim, row: Row[Any], attempt: Row[Any], admitted: list[Row[Any]]
) -> Context:
    """What the strategy knows of a round, without its state."""
    job = rows.spec_of(row)
    # A site that is away for a while is still one of those that the job may use.
    registered = [replace(site, online=True) for site in journal.candidates(store, tx)]
    population = [site for site in invited(job, registered) if not misfit(job, site, row.trusted_roots)]
    samples = known_samples(tx, claim, attempt.number)
    samples |= {work.site: work.num_samples for work in admitted}
    sites = len(job.client_labels) or len(population)
    return Context(attempt.number, job.hyper_parameters.learning_rate, sites, samples)


def known_samples(tx: Transaction, claim: Claim, before: int) -> dict[str, int]:
    """Each site's number of samples in the newest committed round before that one that it took part in."""
    found = tx.execute(
        select(works.c.site, works.c.num_samples)
        .join(rounds, journal.work_of_round())
        .where(
            works.c.job_uid == claim.uid,
            works.c.run == claim.run,
            works.c.kind == "train",
            works.c.state == WorkState.ADMITTED,
            rounds.c.state == RoundState.COMMITTED,
            works.c.round < before,
        )
        .order_by(works.c.round)
    )
    return {row.site: row.num_samples for row in found}


def aggregate(
    store: Store,
    job: Job,
    context: Context,
    weights_digest: str,
    state_digest: str | None,
    admitted: list[Row[Any]],
) -> Aggregated:
    """New weights and state as blobs, from those that the round began with and its updates, in site order."""
    strategy, staged = strategy_of(job), new_staged_file(store.blobs)
    with contextlib.ExitStack() as files:
        weights = files.enter_context(TensorFile.open(store.blobs.local_path(weights_digest)))
        if state_digest is not None:
            state = files.enter_context(TensorFile.open(store.blobs.local_path(state_digest)))
            context = replace(context, state=state)
        sent = sent_signature(
            weights.signature, strategy=strategy.params.model_dump(), algorithm=strategy.name
        )
        cohort = Admitted(store, admitted, job.compression, sent)
        with TensorWriter.create(staged, weights.signature) as writer:
            outcome = partial.aggregate(strategy, cohort, weights, context, writer)
    digest = keep_staged(store.blobs, staged)
    kept = _keep_state(store, strategy, outcome.state) if outcome.state else None
    return Aggregated(digest, kept, outcome.metrics, outcome.warnings)


def _keep_state(store: Store, strategy: Strategy, arrays: dict[str, Any]) -> str:
    staged = new_staged_file(store.blobs)
    write_tensors(staged, arrays, {STRATEGY_KEY: strategy.name})
    return keep_staged(store.blobs, staged)
