"""The relay of secure aggregation: sites' messages are checked, kept and passed on, and never opened."""

from __future__ import annotations

import asyncio
import time
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from sqlalchemy import ColumnElement, Row, select

from catchment.errors import InvalidField, NotFound, ProtocolRefused
from catchment.exchange import transfer
from catchment.exchange.secure_messages import (
    ALL,
    Attempt,
    Step,
    count_of,
    get,
    put,
    some_of,
    still_missing,
)
from catchment.findings import invalid_field
from catchment.jobs.rows import secure_topic, topic
from catchment.jobs.states import AT_SITE, RoundState, WorkState
from catchment.secagg.messages import Advertise, Confirmation, Plan, Roster, Shares, Survivors, Unmasking
from catchment.secagg.server import SecureServer, check_advertise, enough_for_all
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import rounds, sites, works
from catchment.wire.secagg import Refusal, Said, Told

MESSAGES: dict[Said, type[BaseModel]] = {
    "advertise": Advertise,
    "shares": Shares,
    "confirmation": Confirmation,
    "unmasking": Unmasking,
    "refusal": Refusal,
}
LONGEST_S = 30.0


def say(store: Store, site: str, work_id: str, step: str, body: bytes, *, secured: bool = False) -> None:
    """Take a site's message of a step. The same again is harmless.

    Raises:
        NotFound: the site has no such work, or there is no such step.
        InvalidField: the message is malformed.
        ProtocolRefused: it is not signed right, not complete, another one than before, or comes too late.
        Forbidden: the work needs a connection with mutual TLS.
    """
    if step not in MESSAGES:
        raise NotFound(f"sites say nothing at step {step!r}; they do at {', '.join(MESSAGES)}")
    try:
        message = MESSAGES[step].model_validate_json(body)
    except ValidationError as error:
        raise invalid_field(error) from None

    def read(tx: Transaction) -> tuple[Row[Any], Any, dict[str, str]]:
        work = _open_work(tx, site, work_id, secured)
        order = tx.execute(select(works.c.order).where(works.c.id == work_id)).scalar()
        wanted: list[tuple[Step, str]] = [("roster", ALL), ("survivors", ALL), (step, site)]
        known: dict[str, str] = dict(some_of(tx, Attempt.of_work(work), *wanted).items())
        if isinstance(message, Advertise):
            identity = tx.execute(select(sites.c.identity).where(sites.c.name == site)).scalar()
            known["identity"] = identity or ""
        return work, order, known

    work, order, known = store.db.read(read)
    kept = message.model_dump_json()
    if known.get(step) == kept:
        return
    plan = Plan.model_validate((order or {})["secure"]["plan"])
    _check(site, plan, message, known)

    def write(tx: Transaction) -> None:
        # Asked again, with the round's row held: a commit in between has swept this attempt's messages away,
        # and a share that came after it would stay for ever. Held by one at a time: of two messages that come
        # together one sees the other, and so one of them is the last.
        _open_work(tx, site, work_id, secured, hold=True)
        attempt = Attempt.of_work(work)
        put(store, tx, attempt, step, site, kept)
        if _may_go_on(tx, attempt, plan, step):
            tx.notify(topic(work.job_uid))

    store.db.write(write)


def _may_go_on(tx: Transaction, attempt: Attempt, plan: Plan, step: Said) -> bool:
    """Whether the coordinator has something to decide: until the last message it has not."""
    if step in ("advertise", "shares"):
        return not still_missing(tx, attempt, step)
    if step in ("confirmation", "unmasking") and plan.degree is None:
        return enough_for_all(plan, count_of(tx, attempt, step))
    return True


async def told(
    store: Store, site: str, work_id: str, step: str, wait_s: float, *, secured: bool = False
) -> str | None:
    """What a site is told at a step, as JSON; None when there is nothing within `wait_s`.

    Raises:
        NotFound: the site has no such work, or there is no such step.
        ProtocolRefused: the attempt is over, or the site has no part in it any more.
        Forbidden: the work needs a connection with mutual TLS.
    """
    if step not in get_args(Told):
        raise NotFound(f"sites are told nothing at step {step!r}; they are at {', '.join(get_args(Told))}")
    deadline = time.monotonic() + min(max(wait_s, 0.0), LONGEST_S)
    uid, body = await asyncio.to_thread(store.db.read, lambda tx: _told(tx, site, work_id, step, secured))
    while True:
        left = deadline - time.monotonic()
        if body is not None or left <= 0:
            return body
        ticket = store.db.signals.ticket(secure_topic(uid))
        _, body = await asyncio.to_thread(store.db.read, lambda tx: _told(tx, site, work_id, step, secured))
        if body is None:
            await store.db.signals.wait_async(ticket, left)


def _told(tx: Transaction, site: str, work_id: str, step: str, secured: bool) -> tuple[str, str | None]:
    """The job's uid, and what there is to tell."""
    work = _open_work(tx, site, work_id, secured)
    attempt = Attempt.of_work(work)
    if step == "delivery":
        body = get(tx, attempt, "delivery", site)
        left_out = body is None and get(tx, attempt, "delivery", ALL) is not None
    else:
        body = get(tx, attempt, step)  # type: ignore[arg-type]
        left_out = (
            step == "roster" and body is not None and site not in Roster.model_validate_json(body).names
        )
    if left_out:
        raise ProtocolRefused(f"the message of this site came too late for the attempt's {step}")
    return str(work.job_uid), body


_WORK: tuple[ColumnElement[Any], ...] = (
    works.c.id,
    works.c.job_uid,
    works.c.run,
    works.c.round,
    works.c.attempt,
    works.c.state,
    works.c.reason,
    works.c.secured,
    works.c.order["secure"]["plan"]["session"].as_string().label("session"),
    rounds.c.state.label("round_state"),
    rounds.c.reason.label("round_reason"),
)
"""Of a work without its order, which is asked for a hundred times a round and names the whole cohort."""


def _open_work(tx: Transaction, site: str, work_id: str, secured: bool, *, hold: bool = False) -> Row[Any]:
    """The site's work under secure aggregation, while its attempt goes on, to the end of `tx` with `hold`."""
    joined = select(*_WORK).join(
        rounds,
        (works.c.job_uid == rounds.c.job_uid)
        & (works.c.run == rounds.c.run)
        & (works.c.round == rounds.c.number)
        & (works.c.attempt == rounds.c.attempt),
    )
    mine = joined.where(works.c.id == work_id, works.c.site == site)
    work = tx.execute(mine.with_for_update(of=rounds) if hold else mine).first()
    if work is None or work.session is None:
        raise NotFound(f"site {site!r} has no work {work_id!r} under secure aggregation")
    transfer.require_secured(work, secured)
    has_part = work.state in (*AT_SITE, WorkState.DELIVERED, WorkState.ADMITTED)
    if work.round_state != RoundState.OPEN or not has_part:
        why = work.reason or work.round_reason or f"it is {work.round_state}"
        raise ProtocolRefused(f"the attempt is over for this site: {why}")
    return work


def _check(site: str, plan: Plan, message: BaseModel, known: dict[str, str]) -> None:
    """Refuse what could never be part of a sum, at once and to the one who sent it."""
    if getattr(message, "sender", None) != site:
        raise InvalidField("sender", f"is not {site!r}, the site that sends this")
    if isinstance(message, Advertise):
        if "roster" in known:
            raise ProtocolRefused("the attempt's roster is closed; the keys come too late, or are new ones")
        check_advertise(plan, message, lambda _, public: public.hex() == known["identity"])
    elif isinstance(message, Shares | Confirmation | Unmasking):
        if "roster" not in known:
            raise ProtocolRefused("the attempt has no roster yet")
        server = SecureServer(plan, Roster.model_validate_json(known["roster"]))
        if isinstance(message, Shares):
            server.check_shares(message)
            return
        if "survivors" not in known:
            raise ProtocolRefused("the attempt has no survivors yet")
        survivors = Survivors.model_validate_json(known["survivors"])
        if isinstance(message, Confirmation):
            server.check_confirmation(survivors, message)
        else:
            server.check_unmasking(survivors, (*survivors.alive, *survivors.dropped), message)
