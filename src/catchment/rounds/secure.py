"""The coordinator's steps of secure aggregation: agree keys while the sites train, unmask when they have.

Every decision is a row of `secagg_messages` before anybody hears of it, so a flow that died at any line goes
on with the same attempt. A new attempt has another session, and its sites make new keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select

from catchment import faults
from catchment.errors import RoundFailed, SecureSumFailed
from catchment.exchange import secure_messages as messages
from catchment.exchange.secure_messages import ALL, Attempt
from catchment.jobs import log, rows
from catchment.jobs.secure import secure_order
from catchment.jobs.states import AT_SITE, PENDING, RoundState, WorkState
from catchment.rounds import journal
from catchment.rounds.claim import Claim, held
from catchment.rounds.collect import Collected, lose_gone_sites
from catchment.secagg.messages import (
    Advertise,
    Confirmation,
    Delivery,
    Plan,
    Roster,
    Shares,
    Survivors,
    Unmasking,
)
from catchment.secagg.server import (
    SecureServer,
    Seeds,
    enough,
    enough_for_all,
    onemask_complete,
    open_roster,
)
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import sites
from catchment.wire.secagg import Said


def agree_keys(store: Store, claim: Claim, number: int) -> int:
    """Wait for the cohort's keys and shares, and pass them on; how many sites have a part in the sum.

    Sites that say nothing in time are left out. When too few are left the attempt fails, and says why.

    Raises:
        RoundFailed: there is no such open round.
        JobStopped, LeaseLost: as `held`.
    """
    while True:
        ticket = store.db.signals.ticket(rows.topic(claim.uid))
        done, wait_s = store.db.write(lambda tx: _agree(store, tx, claim, number))
        if done is not None:
            return done
        store.db.signals.wait(ticket, wait_s)


def unmask(store: Store, claim: Claim, number: int) -> Collected:
    """Have the survivors confirmed and their shares sent; whether the round's sum can be had.

    Raises:
        RoundFailed: the round was not collected.
        JobStopped, LeaseLost: as `held`.
    """
    while True:
        ticket = store.db.signals.ticket(rows.topic(claim.uid))
        done, wait_s = store.db.write(lambda tx: _unmask(store, tx, claim, number))
        if done is not None:
            return done
        store.db.signals.wait(ticket, wait_s)


def seeds_of(tx: Transaction, row: Row[Any], attempt: Row[Any]) -> Seeds:
    """The masks that are left in the sum of an attempt's admitted updates.

    Raises:
        SecureSumFailed: shares do not fit.
    """
    of = Attempt.of_round(attempt)
    plan = plan_of(row, attempt)
    if plan.mode == "onemask":
        return Seeds((), ())
    server = SecureServer(plan, _roster(tx, of))
    survivors = Survivors.model_validate_json(_there(tx, of, "survivors"))
    shares = [Shares.model_validate_json(body) for body in messages.all_of(tx, of, "shares").values()]
    answers = [Unmasking.model_validate_json(body) for body in messages.all_of(tx, of, "unmasking").values()]
    return server.seeds(survivors, {each.sender: each.commitment for each in shares}, answers)


def plan_of(row: Row[Any], attempt: Row[Any]) -> Plan:
    """What the sites of an attempt were told in their orders."""
    session = f"{attempt.job_uid}/{attempt.run}/{attempt.number}/{attempt.attempt}"
    return Plan.model_validate(secure_order(rows.spec_of(row), session, attempt.cohort)["plan"])


def _agree(store: Store, tx: Transaction, claim: Claim, number: int) -> tuple[int | None, float]:
    row, attempt, found = _open(store, tx, claim, number)
    of, plan = Attempt.of_round(attempt), plan_of(row, attempt)
    if attempt.state != RoundState.OPEN or attempt.collected_at is not None:
        return 0, 0.0
    onemask = plan.mode == "onemask"
    roster = messages.get(tx, of, "roster")
    if roster is None:
        waiting, wait_s = _waiting(store, tx, of, attempt, found, "advertise", attempt.published_at)
        if waiting:
            return None, wait_s
        return _decided(tx, claim, attempt, lambda: _close_keys(store, tx, of, plan, found))
    names = Roster.model_validate_json(roster).names
    if onemask or messages.get(tx, of, "delivery", ALL) is not None:
        return len(names), 0.0
    since = messages.created_at(tx, of, "roster") or tx.now
    mine = [work for work in found if work.site in names]
    waiting, wait_s = _waiting(store, tx, of, attempt, mine, "shares", since)
    if waiting:
        return None, wait_s
    return _decided(tx, claim, attempt, lambda: _close_shares(store, tx, of, plan, mine))


def _decided(tx: Transaction, claim: Claim, attempt: Row[Any], act: Any) -> tuple[int | None, float]:
    """Do a step; where it cannot be done the attempt fails."""
    try:
        act()
    except SecureSumFailed as error:
        _fail(tx, claim, attempt, str(error))
        return 0, 0.0
    tx.notify(rows.secure_topic(claim.uid))
    return None, 0.0


def _close_keys(store: Store, tx: Transaction, of: Attempt, plan: Plan, found: list[Row[Any]]) -> None:
    there = {work.site for work in found if work.state in PENDING}
    bodies = messages.all_of(tx, of, "advertise")
    advertised = [Advertise.model_validate_json(body) for site, body in bodies.items() if site in there]
    known = dict(tx.execute(select(sites.c.name, sites.c.identity).where(sites.c.name.in_(there))).all())
    roster = open_roster(plan, advertised, lambda name, public: known.get(name) == public.hex())
    late = [work for work in found if work.state in AT_SITE and work.site not in roster.names]
    journal.take_back(tx, late, "sent no keys of secure aggregation in time")
    messages.put(store, tx, of, "roster", ALL, roster.model_dump_json())


def _close_shares(store: Store, tx: Transaction, of: Attempt, plan: Plan, found: list[Row[Any]]) -> None:
    there = {work.site for work in found if work.state in PENDING}
    bodies = messages.all_of(tx, of, "shares")
    shares = [Shares.model_validate_json(body) for site, body in bodies.items() if site in there]
    deliveries = SecureServer(plan, _roster(tx, of)).deliveries(shares)
    late = [work for work in found if work.state in AT_SITE and work.site not in deliveries]
    journal.take_back(tx, late, "sent no shares of secure aggregation in time")
    for site, delivery in deliveries.items():
        messages.put(store, tx, of, "delivery", site, delivery.model_dump_json())
    shared = Delivery(shared=tuple(sorted(deliveries)), boxes={})
    messages.put(store, tx, of, "delivery", ALL, shared.model_dump_json())
    faults.reach("after_shares")


def _unmask(store: Store, tx: Transaction, claim: Claim, number: int) -> tuple[Collected | None, float]:
    row, attempt, found = _open(store, tx, claim, number)
    admitted = [work for work in found if work.state == WorkState.ADMITTED]
    if attempt.state != RoundState.OPEN:
        done = attempt.state == RoundState.COMMITTED
        return Collected(attempt.attempt, len(admitted), done, attempt.reason), 0.0
    if attempt.collected_at is None:
        raise RoundFailed(f"round {number} of job {claim.job_id!r} is not collected yet")
    try:
        wait_s = _advance(store, tx, row, attempt, admitted)
    except SecureSumFailed as error:
        _fail(tx, claim, attempt, str(error))
        return Collected(attempt.attempt, len(admitted), False, str(error)), 0.0
    if wait_s == 0.0:  # something new was decided; sites that are woken for nothing all ask again
        tx.notify(rows.secure_topic(claim.uid))
    return (Collected(attempt.attempt, len(admitted), True), 0.0) if wait_s is None else (None, wait_s)


def _advance(
    store: Store, tx: Transaction, row: Row[Any], attempt: Row[Any], admitted: list[Row[Any]]
) -> float | None:
    """One step further; None when the masks can be taken off, or how long to wait."""
    of, plan = Attempt.of_round(attempt), plan_of(row, attempt)
    alive = [work.site for work in admitted]
    if plan.mode == "onemask":
        onemask_complete(_roster(tx, of), alive)
        return None
    server = SecureServer(plan, _roster(tx, of))
    survivors = messages.get(tx, of, "survivors")
    if survivors is None:
        shared = Delivery.model_validate_json(_there(tx, of, "delivery")).shared
        messages.put(store, tx, of, "survivors", ALL, server.survivors(shared, alive).model_dump_json())
        faults.reach("after_survivors")
        return 0.0
    told = Survivors.model_validate_json(survivors)
    if messages.get(tx, of, "request") is None:
        wait_s = _answers_missing(store, tx, of, plan, told, "confirmation", "survivors")
        if wait_s is not None:
            return wait_s
        given = messages.all_of(tx, of, "confirmation").values()
        confirmations = [Confirmation.model_validate_json(body) for body in given]
        try:
            request = server.request(told, confirmations)
        except SecureSumFailed as error:
            raise SecureSumFailed(f"{error}{_refusals(tx, of)}") from error
        messages.put(store, tx, of, "request", ALL, request.model_dump_json())
        faults.reach("after_request")
        return 0.0
    wait_s = _answers_missing(store, tx, of, plan, told, "unmasking", "request")
    if wait_s is not None:
        return wait_s
    try:
        enough(len(messages.all_of(tx, of, "unmasking")), plan.threshold, "have sent shares")
        seeds_of(tx, row, attempt)
    except SecureSumFailed as error:
        raise SecureSumFailed(f"{error}{_refusals(tx, of)}") from error
    return None


def _answers_missing(
    store: Store, tx: Transaction, of: Attempt, plan: Plan, survivors: Survivors, step: Said, asked: Any
) -> float | None:
    """How long to wait for more survivors' messages of a step; None when it can go on."""
    given = messages.all_of(tx, of, step)
    silent = _gone(store, tx, survivors.alive) | set(messages.all_of(tx, of, "refusal"))
    missing = set(survivors.alive) - set(given) - silent
    if not missing or enough_for_all(plan, len(given)):
        return None
    over = (messages.created_at(tx, of, asked) or tx.now) + store.settings.secure_step_timeout_s
    return None if tx.now >= over else max(0.05, min(over - tx.now, 1.0))


def _gone(store: Store, tx: Transaction, names: Sequence[str]) -> set[str]:
    """Sites without a sign of life."""
    seen = tx.execute(select(sites.c.name, sites.c.last_seen, sites.c.left_at).where(sites.c.name.in_(names)))
    lease_s = store.settings.site_lease_s
    return {row.name for row in seen if row.left_at is not None or tx.now - row.last_seen > lease_s}


def _waiting(
    store: Store,
    tx: Transaction,
    of: Attempt,
    attempt: Row[Any],
    found: list[Row[Any]],
    step: Said,
    since: float,
) -> tuple[bool, float]:
    """Whether sites that could still say something have not, and how long to wait for them."""
    given = messages.all_of(tx, of, step)
    missing = [work for work in found if work.state in AT_SITE and work.site not in given]
    over = min(since + store.settings.secure_step_timeout_s, attempt.deadline)
    if not missing or tx.now >= over:
        return False, 0.0
    return True, max(0.05, min(over - tx.now, lose_gone_sites(store, tx, missing)))


def _open(
    store: Store, tx: Transaction, claim: Claim, number: int
) -> tuple[Row[Any], Row[Any], list[Row[Any]]]:
    row = held(tx, claim)
    attempt = journal.latest_attempt(tx, claim, number)
    if attempt is None or attempt.state in (RoundState.SELECTED, RoundState.ABANDONED):
        raise RoundFailed(f"round {number} of job {claim.job_id!r} has no published work")
    found = journal.works_of(tx, claim, number, attempt.attempt, "train")
    if any(work.state in AT_SITE for work in found):
        lose_gone_sites(store, tx, found)
        found = journal.works_of(tx, claim, number, attempt.attempt, "train")
    return row, attempt, found


def _fail(tx: Transaction, claim: Claim, attempt: Row[Any], why: str) -> None:
    """End an attempt; its sites hear of it."""
    reason = f"round {attempt.number}: the secure sum cannot be had: {why}"[:4000]
    found = journal.works_of(tx, claim, attempt.number, attempt.attempt, "train")
    journal.take_back(tx, [work for work in found if work.state in PENDING], reason)
    collected_at = attempt.collected_at or tx.now
    journal.change_round(tx, attempt, state=RoundState.FAILED, reason=reason, collected_at=collected_at)
    log.write(tx, claim.uid, log.Line(reason, "error", run=claim.run, round=attempt.number))
    tx.notify(rows.topic(claim.uid), rows.secure_topic(claim.uid))


def _refusals(tx: Transaction, of: Attempt) -> str:
    """What sites said when they refused to go on."""
    import json

    told = [
        f"{site}: {json.loads(body)['reason']}" for site, body in messages.all_of(tx, of, "refusal").items()
    ]
    return f"; refused by {'; '.join(told[:5])}" if told else ""


def _roster(tx: Transaction, of: Attempt) -> Roster:
    return Roster.model_validate_json(_there(tx, of, "roster"))


def _there(tx: Transaction, of: Attempt, step: Any) -> str:
    body = messages.get(tx, of, step)
    if body is None:
        raise SecureSumFailed(f"the attempt never came to its {step}")
    return body
