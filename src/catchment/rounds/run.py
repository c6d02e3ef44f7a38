"""A run as a whole: what is left to do, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select

from catchment import faults
from catchment.errors import LeaseLost, NotFound, RoundFailed
from catchment.jobs import log, rows, views
from catchment.jobs.secure import is_secure
from catchment.jobs.spent import SHOWN
from catchment.jobs.states import JobState, RoundState
from catchment.rounds import checkpoints, journal, registration
from catchment.rounds.claim import Claim, held
from catchment.rounds.evaluation import evaluation_due, save_due
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import rounds


def remaining_rounds(store: Store, claim: Claim) -> range:
    """The rounds that are still to do; the last committed one too, when what follows the commit is missing.

    Raises:
        JobStopped, LeaseLost: as `held`.
    """

    def step(tx: Transaction) -> range:
        job = rows.spec_of(held(tx, claim, lock=False))
        hyper = job.hyper_parameters
        last = journal.last_committed(tx, claim.uid, claim.run)
        if last is None:
            return range(1, hyper.max_round_num + 1)
        complete = (last.evaluated_at is not None or not evaluation_due(hyper, last.number)) and (
            not save_due(hyper, last.number) or checkpoints.is_saved(tx, claim, last.number)
        )
        complete = complete and ("finish" not in job.extender_functions or last.finish_ran_at is not None)
        return range(last.number + complete, hyper.max_round_num + 1)

    return store.db.read(step)


def round_began(store: Store, claim: Claim, number: int) -> float | None:
    """When a round's cohort was selected, by the store's clock; None where that is still to be done."""
    attempt = store.db.read(lambda tx: journal.latest_attempt(tx, claim, number))
    return float(attempt.selected_at) if attempt is not None else None


def steps_due(store: Store, claim: Claim, number: int) -> tuple[bool, bool]:
    """Whether a round is evaluated, and whether it is saved."""
    hyper = rows.spec_of(store.db.read(lambda tx: held(tx, claim, lock=False))).hyper_parameters
    return evaluation_due(hyper, number), save_due(hyper, number)


def extender_steps(store: Store, claim: Claim) -> frozenset[str]:
    """Which of broadcast, aggregate and finish the job's extenders have."""
    row = store.db.read(lambda tx: held(tx, claim, lock=False))
    return frozenset(rows.spec_of(row).extender_functions)


def is_masked(store: Store, claim: Claim) -> bool:
    """Whether the job's updates arrive masked, so that a round has steps before and after its training."""
    return is_secure(rows.spec_of(store.db.read(lambda tx: held(tx, claim, lock=False))))


def round_report(store: Store, claim: Claim, number: int) -> dict[str, Any]:
    """The report of a round's newest attempt, as the API shows it."""
    reports = store.db.read(lambda tx: views.rounds_view(tx, claim.uid, claim.run, number))
    if not reports:
        raise NotFound(f"round {number} of job {claim.job_id!r} has no attempt")
    return reports[-1]


def finish_run(store: Store, claim: Claim, reason: str = "") -> dict[str, Any]:
    """Write the run's metrics.json and end the job as FINISHED; its summary.

    Args:
        store: the store.
        claim: the run.
        reason: why it ends before its last round; empty when it does not.

    Raises:
        RoundFailed: no round was committed.
        JobStopped, LeaseLost: as `held`.
    """
    summary = {**run_summary(store, claim), **({"reason": reason} if reason else {})}
    if not summary["rounds"]:
        raise RoundFailed("no round was committed")
    folder = store.db.read(lambda tx: held(tx, claim, lock=False)).run_folders[-1]
    store.files.write_bytes(
        claim.namespace, f"{folder}/metrics.json", (json.dumps(summary, indent=2) + "\n").encode()
    )

    faults.reach("before_finish")

    def step(tx: Transaction) -> None:
        registration.register_result(store, tx, claim)
        held(tx, claim)
        rows.end(tx, claim.uid, JobState.FINISHED, reason, progress=100)
        told = f"FINISHED after {summary['rounds']} rounds, weights {summary['weights']}"
        told += f": {reason}" if reason else ""
        log.write(tx, claim.uid, log.Line(told, run=claim.run))

    store.db.write(step)
    return summary


def run_summary(store: Store, claim: Claim) -> dict[str, Any]:
    """Accuracy and loss of each evaluated round, and the final weights' digest."""

    def step(tx: Transaction) -> dict[str, Any]:
        found = tx.execute(
            select(rounds)
            .where(
                rounds.c.job_uid == claim.uid,
                rounds.c.run == claim.run,
                rounds.c.state == RoundState.COMMITTED,
            )
            .order_by(rounds.c.number)
        ).all()
        evaluated = [row for row in found if row.metrics]
        return {
            "run": claim.run,
            "rounds": len(found),
            "weights": found[-1].new_weights if found else None,
            "evaluated_rounds": [row.number for row in evaluated],
            "accuracy": [row.metrics.get("accuracy") for row in evaluated],
            "loss": [row.metrics.get("loss") for row in evaluated],
            "checkpoints": views.checkpoints_of(tx, [claim.uid]).get(claim.uid, {}),
            **({"privacy": _privacy(found)} if found and found[-1].privacy else {}),
        }

    return store.db.read(step)


def _privacy(found: Sequence[Row[Any]]) -> dict[str, Any]:
    """What the run's rounds cost, and the cost after each of them."""
    told = [row.privacy or {} for row in found]
    return {
        **{key: told[-1].get(key) for key in SHOWN},
        "rounds": [row.number for row in found],
        "epsilons": [record.get("epsilon") for record in told],
    }


def fail_run(store: Store, claim: Claim, reason: str) -> None:
    """End the job as FAILED, unless the run is not ours any more."""
    _end(store, claim, JobState.FAILED, reason)


def stop_run(store: Store, claim: Claim) -> None:
    """End a stopping job as STOPPED; one that is being deleted is left to the supervisor."""
    _end(store, claim, JobState.STOPPED, "")


def _end(store: Store, claim: Claim, state: JobState, reason: str) -> None:
    def step(tx: Transaction) -> None:
        row = rows.by_uid(tx, claim.uid, lock=True)
        if row.lease_owner != claim.owner:
            raise LeaseLost(f"job {claim.job_id!r} is driven by another process now")
        rows.cancel_open_works(tx, claim.uid, reason or "the job was stopped")
        if row.state == JobState.DELETING:
            rows.change(tx, claim.uid, lease_owner=None, lease_until=0.0)
        elif row.stop_requested:
            rows.end(tx, claim.uid, JobState.STOPPED)
            log.write(tx, claim.uid, log.Line("STOPPED", run=claim.run))
        else:
            rows.end(tx, claim.uid, state, reason)
            level: log.Level = "error" if state == JobState.FAILED else "info"
            words = f"{state}: {reason}" if reason else str(state)
            log.write(tx, claim.uid, log.Line(words, level, run=claim.run))

    store.db.write(step)
