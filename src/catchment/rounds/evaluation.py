"""Evaluation at the sites: when it is due, its works, and what the sites found together."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, delete

from catchment.jobs import log, rows
from catchment.jobs.spec import HyperParameters
from catchment.jobs.states import PENDING, WorkState
from catchment.rounds import journal
from catchment.rounds.admission import shown_means
from catchment.rounds.claim import Claim, held
from catchment.rounds.cohort import misfit
from catchment.rounds.collect import admit_delivered, lose_gone_sites
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import works


def evaluation_due(hyper: HyperParameters, number: int) -> bool:
    """Every evaluate_interval rounds, before each save, and after the last round."""
    return number % hyper.evaluate_interval == 0 or save_due(hyper, number)


def save_due(hyper: HyperParameters, number: int) -> bool:
    """Every save_interval rounds, and after the last."""
    return number % hyper.save_interval == 0 or number == hyper.max_round_num


def publish_evaluation(
    store: Store,
    tx: Transaction,
    job_row: Row[Any],
    round_row: Row[Any],
    weights: str,
    invited: Collection[str],
) -> int:
    """Offer the evaluation of a round's new weights to those of the invited that are there; how many."""
    job = rows.spec_of(job_row)
    cohort = [
        site.name
        for site in journal.candidates(store, tx)
        if site.name in invited and not misfit(job, site, job_row.trusted_roots)
    ]
    deadline = tx.now + min(store.settings.evaluation_timeout_s, job.hyper_parameters.round_timeout)
    journal.publish_works(
        store,
        tx,
        job_row,
        kind="evaluate",
        number=round_row.number,
        attempt=round_row.attempt,
        cohort=cohort,
        weights=weights,
        deadline=deadline,
    )
    journal.change_round(tx, round_row, evaluation_deadline=deadline)
    return len(cohort)


def evaluate_round(store: Store, claim: Claim, number: int) -> dict[str, Any] | None:
    """Wait for the evaluation of a committed round and attach its metrics; None when no site could.

    Raises:
        NotFound: the round is not committed.
        JobStopped, LeaseLost: as `held`.
    """
    while True:
        ticket = store.db.signals.ticket(rows.topic(claim.uid))
        row = store.db.write(lambda tx: _round(store, tx, claim, number))
        if row.evaluated_at is not None:
            return dict(row.metrics) if row.metrics else None
        admit_delivered(store, claim, number, row.attempt, "evaluate", None)
        done, wait_s = store.db.write(lambda tx: _close_if_due(store, tx, claim, number))
        if done:
            continue
        store.db.signals.wait(ticket, wait_s)


def _round(store: Store, tx: Transaction, claim: Claim, number: int) -> Row[Any]:
    """The committed round, with its evaluation published: again, where a stop had taken it back."""
    job_row = held(tx, claim)
    row = journal.committed(tx, claim, number)
    if row.evaluated_at is not None:
        return row
    found = journal.works_of(tx, claim, number, row.attempt, "evaluate")
    taken_back = {work.site: work.id for work in found if work.state == WorkState.CANCELLED}
    if taken_back or row.evaluation_deadline is None:
        tx.execute(delete(works).where(works.c.id.in_(taken_back.values())))
        invited = taken_back or row.cohort
        publish_evaluation(store, tx, job_row, row, row.new_weights, invited)
    lose_gone_sites(store, tx, found)
    return journal.committed(tx, claim, number)


def _close_if_due(store: Store, tx: Transaction, claim: Claim, number: int) -> tuple[bool, float]:
    job = rows.spec_of(held(tx, claim))
    row = journal.committed(tx, claim, number)
    found = journal.works_of(tx, claim, number, row.attempt, "evaluate")
    pending = [work for work in found if work.state in PENDING]
    over = tx.now >= row.evaluation_deadline
    if pending and not over:
        wait_s = min(row.evaluation_deadline - tx.now, lose_gone_sites(store, tx, found))
        return False, 0.0 if any(work.state == WorkState.DELIVERED for work in pending) else wait_s
    journal.take_back(tx, pending, "the evaluation closed without it")
    reports = [work.metrics or {} for work in found if work.state == WorkState.ADMITTED]
    means = (shown_means(job, reports) if reports else None) or None
    journal.change_round(tx, row, evaluated_at=tx.now, metrics=means)
    told = f"evaluated by {len(reports)} of {len(found)} sites"
    line = log.Line(f"{told}: {log.numbers(means)}", run=claim.run, round=number)
    if means is None:
        line = log.Line(f"{told}; the round has no metrics", "warning", run=claim.run, round=number)
    log.write(tx, claim.uid, line)
    tx.notify(rows.topic(claim.uid))
    return True, 0.0
