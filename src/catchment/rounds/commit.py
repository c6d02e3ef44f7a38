"""Aggregation and commit: a round's end and the next one's beginning, in one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row, select

from catchment import faults
from catchment.errors import RoundFailed
from catchment.jobs import log, purge, rows
from catchment.jobs.spec import Job
from catchment.jobs.states import RoundState, WorkState
from catchment.models.tensors import TensorFile, TensorWriter
from catchment.rounds import broadcasting, journal
from catchment.rounds.admission import weighted_means
from catchment.rounds.claim import Claim, held
from catchment.rounds.cohort import rule_of
from catchment.rounds.evaluation import evaluation_due, publish_evaluation
from catchment.rounds.extended_aggregation import aggregate_extended
from catchment.rounds.select import choose, open_round
from catchment.store import Store
from catchment.store.blobs import keep_staged, new_staged_file
from catchment.store.database import Transaction
from catchment.store.schema import rounds, works
from catchment.strategies.base import Strategy
from catchment.strategies.fedavg import FedAvg
from catchment.strategies.sums import OPEN_UPDATES, ClientUpdate


def aggregate_and_commit(store: Store, claim: Claim, number: int) -> str:
    """Aggregate the admitted updates of a collected round and commit it; the new weights' digest.

    The same transaction offers the evaluation where it is due, selects the next round's cohort and
    publishes its work, so that sites train while the rest of this round is written down. Where the job has
    a broadcast function, that is called before anything is published, and not with the commit waiting:
    the flow calls it right after the commit (rounds.broadcasting).

    Raises:
        RoundFailed: the round was not collected, or not enough updates were admitted.
        BadTensors: the new weights would not be finite.
        ExtenderFailed: the job's aggregate function failed; nothing has changed.
        JobStopped, LeaseLost: as `held`.
    """
    row, attempt = store.db.read(
        lambda tx: (held(tx, claim, lock=False), journal.latest_attempt(tx, claim, number))
    )
    if attempt is None or attempt.state not in (RoundState.OPEN, RoundState.COMMITTED):
        raise RoundFailed(f"round {number} of job {claim.job_id!r} has nothing to aggregate")
    if attempt.state == RoundState.COMMITTED:
        sweep(store, claim, number)
        return str(attempt.new_weights)
    job = rows.spec_of(row)
    admitted = store.db.read(
        lambda tx: [
            work
            for work in journal.works_of(tx, claim, number, attempt.attempt, "train")
            if work.state == WorkState.ADMITTED
        ]
    )
    if attempt.collected_at is None or len(admitted) < job.hyper_parameters.threshold_client_num:
        raise RoundFailed(f"round {number} of job {claim.job_id!r} is not ready to be committed")
    own = aggregate_extended(store, claim, number, attempt.weights, admitted)
    digest = own.weights or aggregate(store, strategy_of(job), attempt.weights, admitted)
    values = {"aggregated": own.aggregated, "rule": own.told(attempt.rule)}
    faults.reach("before_commit")
    store.db.write(lambda tx: _commit(store, tx, claim, number, digest, admitted, values))
    faults.reach("after_commit")
    sweep(store, claim, number)
    return digest


def strategy_of(job: Job) -> Strategy:
    """The job's aggregation rule."""
    return FedAvg(learning_rate=job.hyper_parameters.learning_rate)


def aggregate(store: Store, strategy: Strategy, weights_digest: str, admitted: list[Row[Any]]) -> str:
    """New global weights from the weights that the round began with and its updates, in site order."""
    staged = new_staged_file(store.blobs)
    with TensorFile.open(store.blobs.local_path(weights_digest)) as weights:
        sums = strategy.begin(weights)
        with contextlib.ExitStack() as files:
            for batch in _batches(sorted(admitted, key=lambda work: work.site)):
                sums.settle()
                files.close()
                updates = [_opened(store, work) for work in batch]
                for update in updates:
                    files.enter_context(update.tensors)
                strategy.accumulate(sums, updates)
                faults.reach("mid_aggregate")
            with TensorWriter.create(staged, weights.signature) as writer:
                strategy.finish(sums, weights, writer)
    return keep_staged(store.blobs, staged)


def _batches(works: list[Row[Any]]) -> Iterator[list[Row[Any]]]:
    """So few at a time that they can all be open; the last of them stay open until the end."""
    for start in range(0, len(works), OPEN_UPDATES):
        yield works[start : start + OPEN_UPDATES]


def _opened(store: Store, work: Row[Any]) -> ClientUpdate:
    tensors = TensorFile.open(store.blobs.local_path(work.update))
    return ClientUpdate(work.site, work.num_samples, tensors)


def _commit(
    store: Store,
    tx: Transaction,
    claim: Claim,
    number: int,
    digest: str,
    admitted: list[Row[Any]],
    values: dict[str, Any],
) -> None:
    row = held(tx, claim)
    attempt = journal.latest_attempt(tx, claim, number)
    if attempt is None or attempt.state != RoundState.OPEN:
        raise RoundFailed(f"round {number} of job {claim.job_id!r} was closed by somebody else")
    job = rows.spec_of(row)
    hyper, sent_ahead = job.hyper_parameters, "broadcast" not in job.extender_functions
    means = weighted_means([work.metrics or {} for work in admitted])
    journal.change_round(
        tx,
        attempt,
        state=RoundState.COMMITTED,
        new_weights=digest,
        committed_at=tx.now,
        training_metrics=means,
        **values,
    )
    told = f"committed, {len(admitted)} updates: {log.numbers(means)}"
    log.write(tx, claim.uid, log.Line(told, run=claim.run, round=number))
    progress = min(99, 100 * number // hyper.max_round_num)
    rows.change(tx, claim.uid, progress=progress, reason="", resumes=0)
    if evaluation_due(hyper, number) and sent_ahead:
        publish_evaluation(store, tx, row, attempt, digest, attempt.cohort)
    faults.reach("mid_commit")
    if number < hyper.max_round_num:
        _begin_next(store, tx, claim, row, number + 1, digest, publish=sent_ahead)


def _begin_next(
    store: Store,
    tx: Transaction,
    claim: Claim,
    row: Row[Any],
    number: int,
    weights: str,
    *,
    publish: bool,
) -> None:
    """Select and publish the next round if its sites are there; otherwise its select task waits for them."""
    cohort, _missing = choose(store, tx, claim, row, number, failed=[])
    if cohort is None:
        return
    journal.open_attempt(tx, claim, number, 0, cohort, weights, rule_of(rows.spec_of(row), len(cohort)))
    attempt = journal.latest_attempt(tx, claim, number)
    if attempt is not None and publish:
        open_round(store, tx, row, attempt)


def sweep(store: Store, claim: Claim, number: int) -> None:
    """Remove updates and files of all rounds up to a committed one, and weights that came before its own.

    What the sites sent has done its work; keeping it would keep what could be learnt from it. Rounds whose
    sweep was lost with their process are made up for.
    """
    run = (rounds.c.job_uid == claim.uid) & (rounds.c.run == claim.run)

    def step(tx: Transaction) -> set[str]:
        mine = (works.c.job_uid == claim.uid) & (works.c.run == claim.run) & (works.c.round <= number)
        found = broadcasting.forget(tx, claim, number)
        for column in (works.c.update, works.c.files):
            given = mine & column.is_not(None)
            found |= set(tx.execute(select(column).where(given)).scalars())
            tx.execute(works.update().where(given).values({column: None}))
        before = run & (rounds.c.number < number) & (rounds.c.weights != "")
        found |= set(tx.execute(select(rounds.c.weights).where(before)).scalars())
        tx.execute(rounds.update().where(before).values(weights=""))
        # The same digests again: those weights were another round's result.
        tx.execute(rounds.update().where(run & (rounds.c.number < number - 1)).values(new_weights=None))
        return found

    with contextlib.suppress(FileNotFoundError):
        purge.delete_unreferenced(store, store.db.write(step))
