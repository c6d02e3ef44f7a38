"""Updates of finite but absurd values: whose they are, so that the others' round need not fail for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Row

from catchment.errors import BadTensors, RoundFailed
from catchment.jobs import log, purge
from catchment.jobs.states import WorkState
from catchment.rounds import journal
from catchment.rounds.claim import Claim, held
from catchment.store import Store
from catchment.store.database import Transaction

Aggregate = Callable[[list[Row[Any]]], str]


def aggregate_finite(
    store: Store, claim: Claim, number: int, threshold: int, admitted: list[Row[Any]], aggregate: Aggregate
) -> tuple[str, list[Row[Any]]]:
    """The new weights' digest, and the updates that are in it: without those that make it overflow.

    New weights are a mean of what each update alone would make of the old ones, so where the mean is not
    finite one of those is not. They are looked for only then.

    Raises:
        BadTensors: the new weights are not finite, and it is not some of the updates that make them so.
        RoundFailed: too few updates are left; names the sites.
    """
    try:
        return aggregate(admitted), admitted
    except BadTensors as error:
        bad = {work.id: problem for work in admitted if (problem := _problem(store, work, aggregate))}
        if len(bad) in (0, len(admitted)):
            raise  # it is the updates together, or the weights that they all begin with
        store.db.write(lambda tx: _reject(tx, claim, number, admitted, bad))
        left = [work for work in admitted if work.id not in bad]
        if len(left) < threshold:
            told = "; ".join(f"{work.site}: {bad[work.id]}" for work in admitted if work.id in bad)
            raise RoundFailed(
                f"round {number} has {len(left)} of at least {threshold} updates that can be used: {told}"
            ) from error
    return aggregate(left), left


def _problem(store: Store, work: Row[Any], aggregate: Aggregate) -> str:
    """What is wrong with one update alone; empty when nothing is."""
    try:
        digest = aggregate([work])
    except BadTensors as error:
        return f"with this update, {error}"
    purge.delete_unreferenced(store, {digest})
    return ""


def _reject(
    tx: Transaction, claim: Claim, number: int, admitted: list[Row[Any]], bad: dict[str, str]
) -> None:
    held(tx, claim)
    for work in admitted:
        if work.id in bad:
            journal.end_work(tx, work.id, WorkState.REJECTED, bad[work.id])
            line = log.Line(f"rejected: {bad[work.id]}", "warning", work.site, work.run, number)
            log.write(tx, claim.uid, line)
