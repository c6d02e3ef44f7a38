"""Aggregation and commit: a round's end and the next one's beginning, in one transaction."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Row, select

from catchment import faults
from catchment.errors import RoundFailed
from catchment.exchange import secure_messages
from catchment.jobs import log, purge, rows
from catchment.jobs.privacy import shows_sites
from catchment.jobs.states import RoundState, WorkState
from catchment.rounds import broadcasting, journal
from catchment.rounds.admission import shown_means
from catchment.rounds.aggregation import Aggregated, aggregate_round
from catchment.rounds.buffered import end_stale, round_works, uncounted
from catchment.rounds.claim import Claim, held
from catchment.rounds.evaluation import evaluation_due, publish_evaluation
from catchment.rounds.extended_aggregation import aggregate_extended
from catchment.rounds.overflow import aggregate_finite
from catchment.rounds.select import begin_round
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import rounds, works
from catchment.strategies.plan import buffer_size, strategy_name


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
        TransferError: another job has just removed the same bytes; trying again helps.
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
            for work in round_works(tx, claim, job, number, attempt.attempt)
            if work.state == WorkState.ADMITTED
        ]
    )
    if attempt.collected_at is None or len(admitted) < job.hyper_parameters.threshold_client_num:
        raise RoundFailed(f"round {number} of job {claim.job_id!r} is not ready to be committed")
    made = None
    threshold = job.hyper_parameters.threshold_client_num
    if not shows_sites(job):
        made = aggregate_round(store, claim, row, attempt, admitted)
        own = aggregate_extended(store, claim, attempt, admitted, together=made.weights)
    else:
        own = aggregate_extended(store, claim, attempt, admitted)
    if own.weights:
        made = replace(made or Aggregated("", attempt.state_before), weights=own.weights)
    elif made is None:
        made, admitted = aggregate_finite(
            store,
            claim,
            number,
            threshold,
            admitted,
            lambda updates: aggregate_round(store, claim, row, attempt, updates),
        )
    values = {
        "aggregated": own.aggregated,
        "rule": own.told(attempt.rule),
        "strategy": {"name": strategy_name(job), "metrics": made.metrics},
        "privacy": made.privacy,
    }
    faults.reach("before_commit")
    digest = store.db.write(partial(_commit, store, claim, number, made, admitted, values))
    faults.reach("after_commit")
    sweep(store, claim, number)
    return digest


def _commit(
    store: Store,
    claim: Claim,
    number: int,
    made: Aggregated,
    admitted: list[Row[Any]],
    values: dict[str, Any],
    tx: Transaction,
) -> str:
    purge.hold_blobs(store, tx, [made.weights, made.state, values["aggregated"]])
    row = held(tx, claim)
    attempt = journal.latest_attempt(tx, claim, number)
    if attempt is not None and attempt.state == RoundState.COMMITTED:
        return str(attempt.new_weights)  # by an earlier try of this step that was given up too soon
    if attempt is None or attempt.state != RoundState.OPEN:
        raise RoundFailed(f"round {number} of job {claim.job_id!r} was closed by somebody else")
    job = rows.spec_of(row)
    hyper, sent_ahead = job.hyper_parameters, "broadcast" not in job.extender_functions
    means = shown_means(job, [work.metrics or {} for work in admitted])
    if made.num_samples is not None:
        means["sample_num"] = made.num_samples
    journal.change_round(
        tx,
        attempt,
        state=RoundState.COMMITTED,
        new_weights=made.weights,
        new_state=made.state,
        committed_at=tx.now,
        training_metrics=means,
        **values,
    )
    count = works.update().where(works.c.id.in_([work.id for work in admitted]))
    tx.execute(count.values(counted_in=number))
    end_stale(tx, claim, job, number)
    told = f"committed, {len(admitted)} updates: {log.numbers(means)}"
    warnings = [log.Line(words, "warning", run=claim.run, round=number) for words in made.warnings]
    log.write(tx, claim.uid, log.Line(told, run=claim.run, round=number), *warnings)
    progress = min(99, 100 * number // hyper.max_round_num)
    rows.change(tx, claim.uid, progress=progress, reason="", resumes=0)
    if evaluation_due(hyper, number) and sent_ahead:
        # A buffered round may have selected nobody.
        invited = attempt.cohort or [work.site for work in admitted]
        publish_evaluation(store, tx, row, attempt, made.weights, invited)
    faults.reach("mid_commit")
    if number < hyper.max_round_num:
        begin_round(store, tx, claim, row, number + 1, made.weights, made.state, publish=sent_ahead)
    return made.weights


def sweep(store: Store, claim: Claim, number: int) -> None:
    """Remove updates and files of all rounds up to a committed one, and weights that came before its own.

    What the sites sent has done its work; keeping it would keep what could be learnt from it. Rounds whose
    sweep was lost with their process are made up for.
    """
    run = (rounds.c.job_uid == claim.uid) & (rounds.c.run == claim.run)

    row = store.db.read(lambda tx: rows.by_uid(tx, claim.uid))
    buffered = buffer_size(rows.spec_of(row)) is not None

    def step(tx: Transaction) -> set[str]:
        mine = (works.c.job_uid == claim.uid) & (works.c.run == claim.run) & (works.c.round <= number)
        left = [work for work in uncounted(tx, claim) if work.round <= number] if buffered else []
        mine &= works.c.id.not_in([work.id for work in left])
        found = broadcasting.forget(tx, claim, number)
        secure_messages.forget(tx, claim.uid, claim.run, number)
        for column in (works.c.update, works.c.files):
            given = mine & column.is_not(None)
            found |= set(tx.execute(select(column).where(given)).scalars())
            tx.execute(works.update().where(given).values({column: None}))
        # Sites that a buffered round has left at work may still have to fetch what theirs began with.
        before = run & (rounds.c.number < number) & (rounds.c.weights != "")
        before &= rounds.c.number.not_in({work.round for work in left})
        for weights, state in tx.execute(select(rounds.c.weights, rounds.c.state_before).where(before)):
            found |= {weights, state} - {None}
        tx.execute(rounds.update().where(before).values(weights="", state_before=None))
        # The same digests again: those weights and states were another round's result.
        older = run & (rounds.c.number < number - 1)
        tx.execute(rounds.update().where(older).values(new_weights=None, new_state=None))
        return found

    with contextlib.suppress(FileNotFoundError):
        purge.delete_unreferenced(store, store.db.write(step))
