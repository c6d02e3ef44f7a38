"""Collecting a round's updates: wait, admit what arrives, give up on who is gone, and know when to close."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Row

from catchment import faults
from catchment.errors import BadTensors, NotFound, RoundFailed, TransferError
from catchment.exchange.silence import gone_sites, nobody_is_heard
from catchment.exchange.sites import lose_works
from catchment.jobs import log, rows
from catchment.jobs.spec import HyperParameters
from catchment.jobs.states import AT_SITE, PENDING, RoundState, WorkState
from catchment.rounds import journal
from catchment.rounds.admission import Expected, admit_files, admit_update, expected_of, num_samples_of
from catchment.rounds.buffered import expire, round_works
from catchment.rounds.claim import Claim, held
from catchment.store import Store
from catchment.store.clock import Countdown
from catchment.store.database import Transaction
from catchment.strategies.plan import buffer_size

ADMITTED_AT_A_TIME = 64
"""Verdicts that one transaction writes down; a thousand clients' are not worth a thousand commits."""


@dataclass(frozen=True)
class Collected:
    """What a round's training brought: enough updates to commit, or too few."""

    attempt: int
    admitted: int
    enough: bool
    reason: str = ""


def collect_updates(store: Store, claim: Claim, number: int) -> Collected:
    """Wait until the round can be closed, then close it for its sites.

    The round closes when every site has delivered or failed, when redundancy's surplus is not needed any
    more, when the threshold is out of reach, or at its deadline.

    Raises:
        RoundFailed: there is no such open round.
        JobStopped, LeaseLost: as `held`.
    """
    expected: Expected | None = None
    countdown: Countdown | None = None
    while True:
        ticket = store.db.signals.ticket(rows.topic(claim.uid))
        attempt = store.db.write(lambda tx: _attempt(store, tx, claim, number))
        if attempt.state in (RoundState.COMMITTED, RoundState.FAILED) or attempt.collected_at is not None:
            return store.db.read(lambda tx, row=attempt: _collected(tx, claim, row))  # type: ignore[misc]
        if expected is None:
            row = store.db.read(lambda tx: held(tx, claim, lock=False))
            expected = expected_of(store, row, attempt)
        countdown = countdown or Countdown(attempt.deadline - attempt.published_at)
        admit_delivered(store, claim, number, attempt.attempt, "train", expected)
        closed, wait_s = store.db.write(partial(_close_if_due, store, claim, number, countdown))
        if closed is not None:
            return closed
        store.db.signals.wait(ticket, wait_s)


def _attempt(store: Store, tx: Transaction, claim: Claim, number: int) -> Row[Any]:
    held(tx, claim)
    attempt = journal.latest_attempt(tx, claim, number)
    if attempt is None or attempt.state in (RoundState.SELECTED, RoundState.ABANDONED):
        raise RoundFailed(f"round {number} of job {claim.job_id!r} has no published work")
    job = rows.spec_of(rows.by_uid(tx, claim.uid))
    lose_gone_sites(store, tx, round_works(tx, claim, job, number, attempt.attempt))
    return attempt


def lose_gone_sites(store: Store, tx: Transaction, of_works: list[Row[Any]]) -> float:
    """Give up work whose site shows no sign of life; seconds until the next may be gone."""
    waiting = {work.site for work in of_works if work.state in AT_SITE}
    if not waiting:
        return 60.0
    gone, look_s = gone_sites(tx, store.settings, waiting)
    for site, silent_s in gone.items():
        lose_works(tx, [site], f"no sign of life from the site for {silent_s:.0f} s")
    return look_s


@dataclass(frozen=True)
class _Verdict:
    work: Row[Any]
    state: WorkState
    reason: str
    samples: int | None


def admit_delivered(
    store: Store, claim: Claim, number: int, attempt: int, kind: str, expected: Expected | None
) -> None:
    """Decide on each delivered work. Reading an update takes time, so no transaction is open meanwhile."""
    delivered = store.db.read(
        lambda tx: [
            work for work in _of_kind(tx, claim, number, attempt, kind) if work.state == WorkState.DELIVERED
        ]
    )
    for start in range(0, len(delivered), ADMITTED_AT_A_TIME):
        part = delivered[start : start + ADMITTED_AT_A_TIME]
        verdicts = [_judged(store, work, expected) for work in part]
        store.db.write(lambda tx, verdicts=verdicts: _write_down(tx, claim, verdicts))  # type: ignore[misc]
        faults.reach("after_admission")


def _judged(store: Store, work: Row[Any], expected: Expected | None) -> _Verdict:
    try:
        admit_files(store, work)
        samples = (
            admit_update(store, work, expected)
            if expected is not None
            else num_samples_of(work.metrics or {})
        )
    except (BadTensors, TransferError, NotFound) as error:
        return _Verdict(work, WorkState.REJECTED, str(error), None)
    masked = expected is not None and expected.masked is not None
    silent = not masked and "sample_num" not in (work.metrics or {})
    told = "reported no sample_num, counted as 1" if silent else ""
    return _Verdict(work, WorkState.ADMITTED, told, samples)


def _write_down(tx: Transaction, claim: Claim, verdicts: list[_Verdict]) -> None:
    held(tx, claim)
    journal.end_works(
        tx, [(verdict.work.id, verdict.state, verdict.reason, verdict.samples) for verdict in verdicts]
    )
    lines = [
        log.Line(
            f"rejected: {verdict.reason}" if verdict.state == WorkState.REJECTED else verdict.reason,
            "warning",
            verdict.work.site,
            verdict.work.run,
            verdict.work.round,
        )
        for verdict in verdicts
        if verdict.reason
    ]
    log.write(tx, claim.uid, *lines)


def _of_kind(tx: Transaction, claim: Claim, number: int, attempt: int, kind: str) -> list[Row[Any]]:
    if kind != "train":
        return journal.works_of(tx, claim, number, attempt, kind)
    return round_works(tx, claim, rows.spec_of(rows.by_uid(tx, claim.uid)), number, attempt)


def _close_if_due(
    store: Store, claim: Claim, number: int, countdown: Countdown, tx: Transaction
) -> tuple[Collected | None, float]:
    """Close the round when its rule says so; otherwise how long to wait before looking again."""
    row = held(tx, claim)
    attempt = journal.latest_attempt(tx, claim, number)
    if attempt is None:
        raise RoundFailed(f"round {number} of job {claim.job_id!r} is gone")
    job = rows.spec_of(row)
    hyper, size = job.hyper_parameters, buffer_size(job)
    if size is not None:
        expire(tx, claim)
    found = round_works(tx, claim, job, number, attempt.attempt)
    admitted = sum(work.state == WorkState.ADMITTED for work in found)
    pending = [work for work in found if work.state in PENDING]
    left_s = tx.counted_down(countdown, attempt.deadline)
    over = left_s <= 0
    if not is_closed(hyper, len(found), admitted, len(pending), over=over, size=size):
        next_s = min(work.deadline for work in pending) - tx.now if size is not None else left_s
        wait_s = min(left_s, max(0.0, next_s), lose_gone_sites(store, tx, found))
        _tell_of_silence(store, tx, claim, row, number)
        return None, 0.0 if any(work.state == WorkState.DELIVERED for work in pending) else wait_s
    late = (
        f"no result within round_timeout, {hyper.round_timeout} s" if over else "the round closed without it"
    )
    if size is not None and not over:
        # They go on, for a later round.
        found, pending = [work for work in found if work not in pending], []
    journal.take_back(tx, pending, late)
    enough = admitted >= hyper.threshold_client_num
    values: dict[str, Any] = {"collected_at": tx.now}
    told = "; ".join(
        f"{work.site} {_told(work, pending, late)}" for work in found if work.state != WorkState.ADMITTED
    )
    if enough and told:
        words = f"{admitted} of {len(found)} updates: {told}"
        log.write(tx, claim.uid, log.Line(words, "warning", run=claim.run, round=number))
    if not enough:
        values["state"] = RoundState.FAILED
        values["reason"] = (
            f"round {number} has {admitted} of at least {hyper.threshold_client_num} updates: {told}"[:4000]
        )
        log.write(tx, claim.uid, log.Line(values["reason"], "error", run=claim.run, round=number))
    journal.change_round(tx, attempt, **values)
    tx.notify(rows.topic(claim.uid))
    return Collected(attempt.attempt, admitted, enough, values.get("reason", "")), 0.0


def _tell_of_silence(store: Store, tx: Transaction, claim: Claim, row: Row[Any], number: int) -> None:
    """Say in the job's reason that no site is heard, and take it back when one is."""
    lease_s = store.settings.site_lease_s
    silent = nobody_is_heard(tx, lease_s)
    reason = f"round {number} waits: no site has been heard for {lease_s:g} s" if silent else ""
    if row.reason == reason:
        return
    rows.change(tx, claim.uid, reason=reason)
    if silent:
        log.write(tx, claim.uid, log.Line(reason, "warning", run=claim.run, round=number))


def is_closed(
    hyper: HyperParameters, selected: int, admitted: int, pending: int, *, over: bool, size: int | None = None
) -> bool:
    """Whether a round has what it needs, or cannot get it any more; `size` is that of FedBuff's buffer."""
    surplus_not_needed = selected > hyper.client_num and admitted >= hyper.client_num
    if size is not None:
        surplus_not_needed = admitted >= size
    out_of_reach = admitted + pending < hyper.threshold_client_num
    return pending == 0 or over or surplus_not_needed or out_of_reach


def _told(work: Row[Any], pending: list[Row[Any]], late: str) -> str:
    if any(work.id == other.id for other in pending):
        return f"late ({late})"
    return f"{work.state} ({work.reason})"


def _collected(tx: Transaction, claim: Claim, attempt: Row[Any]) -> Collected:
    job = rows.spec_of(rows.by_uid(tx, claim.uid))
    found = round_works(tx, claim, job, attempt.number, attempt.attempt)
    admitted = sum(work.state == WorkState.ADMITTED for work in found)
    return Collected(attempt.attempt, admitted, attempt.state != RoundState.FAILED, attempt.reason)
