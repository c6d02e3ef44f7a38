"""Sites: who they are, whether they live, and the work that they are handed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Row, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from catchment.errors import NotFound, Refused
from catchment.exchange.silence import POLL_OF_LEASE, end_silence
from catchment.exchange.storable import storable
from catchment.jobs.rows import site_topic, topic
from catchment.jobs.states import AT_SITE, WorkState
from catchment.jobs.times import rfc3339
from catchment.observe import trace
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import sites, works
from catchment.wire.messages import (
    PROTOCOL,
    Cancel,
    PollAnswer,
    PollRequest,
    Registered,
    Registration,
    WorkOrder,
)

SITES_TOPIC = "sites"
"""Signalled when a site comes or goes: rounds that wait for sites listen to it."""


def register(
    store: Store, site: str, registration: Registration, certificate: str | None = None
) -> Registered:
    """Take a site in, or welcome it back. Work that an earlier process of it held is offered again.

    Args:
        store: the store.
        site: its name.
        registration: what it says about itself.
        certificate: client certificate (PEM) of the connection, which proves the name; None without mutual
            TLS: then open work that needs it is lost.

    Raises:
        Refused: the agent speaks another version of the protocol, or has another identity key than before.
    """
    if registration.protocol != PROTOCOL:
        raise Refused(
            f"protocol: this coordinator speaks version {PROTOCOL} of the exchange, "
            f"the site's agent version {registration.protocol}; install matching versions"
        )
    values = {
        "address": storable(registration.address),
        "session": storable(registration.session),
        "registration": registration.model_dump(mode="json"),
        "left_at": None,
        "certificate": certificate,
        "identity": registration.identity,
    }
    insert = sqlite.insert if store.db.is_sqlite else postgresql.insert

    def step(tx: Transaction) -> None:
        end_silence(tx, store.settings.site_lease_s)
        stamped = {**values, "registered_at": tx.now, "last_seen": tx.now}
        new = insert(sites).values(name=site, **stamped).on_conflict_do_nothing().returning(sites.c.name)
        if tx.execute(new).first() is None:
            mine = sites.c.name == site
            before = tx.execute(select(sites).where(mine).with_for_update()).one()
            stamped["identity"] = _pinned(site, before.identity, registration.identity)
            tx.execute(update(sites).where(mine).values(**stamped))
            if before.session != values["session"]:
                _offer_again(tx, site)
        if certificate is None:
            lose_works(tx, [site], "the site is not connected with mutual TLS any more", only=works.c.secured)
        tx.notify(SITES_TOPIC)

    store.db.write(step)
    return Registered(lease_s=store.settings.site_lease_s, poll_s=store.settings.site_poll_s)


def _pinned(site: str, known: str | None, given: str | None) -> str | None:
    """The identity key that a site keeps: the first one that it registered with.

    Raises:
        Refused: it comes with another one.
    """
    if known is not None and given is not None and known != given:
        raise Refused(
            f"identity: site {site!r} has another identity key than it registered with first; if its people "
            f"have made a new one, the coordinator's must say: catchment store forget-identity {site}"
        )
    return known or given


def forget_identity(store: Store, site: str) -> None:
    """Let a site register with a new identity key. Raises NotFound."""

    def step(tx: Transaction) -> bool:
        mine = sites.c.name == site
        if tx.execute(select(sites.c.name).where(mine).with_for_update()).first() is None:
            return False
        tx.execute(update(sites).where(mine).values(identity=None))
        return True

    if not store.db.write(step):
        raise NotFound(f"no site {site!r} has ever registered")


def _offer_again(tx: Transaction, site: str) -> None:
    """What another process of the site was given may be lost with it; its open request ends."""
    tx.execute(
        update(works)
        .where(works.c.site == site, works.c.state == WorkState.ACCEPTED)
        .values(state=WorkState.OFFERED)
    )
    tx.notify(site_topic(site))


def leave(store: Store, site: str, session: str | None = None) -> None:
    """A site says that it goes: its open work is lost at once instead of after the lease.

    Args:
        store: the store.
        site: its name.
        session: which of its agents goes; None from agents that do not tell: whichever runs.

    Raises:
        NotFound: another agent has registered under the site's name since; that one and its work stay.
    """

    def step(tx: Transaction) -> None:
        mine = select(sites.c.session).where(sites.c.name == site).with_for_update()
        if session is not None and tx.execute(mine).scalar() != storable(session):
            raise NotFound(f"site {site!r} has another session by now, or none; that one goes on")
        tx.execute(update(sites).where(sites.c.name == site).values(left_at=tx.now))
        lose_works(tx, [site], "the site's agent was shut down")
        tx.notify(SITES_TOPIC)

    store.db.write(step)


def lose_works(
    tx: Transaction, names: Collection[str], reason: str, *, only: ColumnElement[bool] | None = None
) -> None:
    """Give up the open work of sites that are gone, or `only` some of it; the jobs hear of it."""
    open_works = works.c.site.in_(names) & works.c.state.in_(AT_SITE)
    if only is not None:
        open_works &= only
    uids = tx.execute(select(works.c.job_uid).where(open_works).distinct()).scalars().all()
    tx.execute(
        update(works).where(open_works).values(state=WorkState.LOST, reason=reason, finished_at=tx.now)
    )
    tx.notify(*(topic(uid) for uid in uids))


async def poll(store: Store, site: str, request: PollRequest, *, secured: bool = False) -> PollAnswer:
    """New work and cancellations, as soon as there are any; empty when the time is over.

    Args:
        store: the store.
        site: its name.
        request: what it holds and has room for.
        secured: whether the connection is mutually authenticated; a session keeps to what it began with.

    Raises:
        NotFound: the site is not registered, or another process registered under its name since.
    """
    deadline = time.monotonic() + min(request.wait_s, store.settings.site_lease_s * POLL_OF_LEASE)
    look = answer_now
    while True:
        ticket = store.db.signals.ticket(site_topic(site))
        answer = await asyncio.to_thread(look, store, site, request, secured=secured)
        left = deadline - time.monotonic()
        if answer.work or answer.cancel or left <= 0:
            return answer
        await store.db.signals.wait_async(ticket, left)
        look = _answer_if_any


def answer_now(store: Store, site: str, request: PollRequest, *, secured: bool = False) -> PollAnswer:
    """What there is to say to a site now; counts as its sign of life. Handing out twice is harmless.

    Raises:
        NotFound: as `poll`.
    """

    def step(tx: Transaction) -> PollAnswer:
        known = _with_session(tx, site, request.session, secured=secured)
        end_silence(tx, store.settings.site_lease_s)
        if not is_online(tx, known, store.settings.site_lease_s):
            tx.notify(SITES_TOPIC)  # it is back: rounds that wait for sites should look again
        tx.execute(update(sites).where(sites.c.name == site).values(last_seen=tx.now))
        return PollAnswer(
            work=tuple(_hand_out(tx, site, request)), cancel=tuple(_cancellations(tx, site, request.holding))
        )

    return store.db.write(step)


def _answer_if_any(store: Store, site: str, request: PollRequest, *, secured: bool = False) -> PollAnswer:
    """`answer_now`, but without a write while there is nothing to say: on SQLite it would wake everybody."""

    def step(tx: Transaction) -> bool:
        _with_session(tx, site, request.session, secured=secured)
        return bool(_due(tx, site, request) or _cancellations(tx, site, request.holding))

    return answer_now(store, site, request, secured=secured) if store.db.read(step) else PollAnswer()


def _with_session(tx: Transaction, site: str, session: str, *, secured: bool) -> Row[Any]:
    known = tx.execute(select(sites).where(sites.c.name == site)).first()
    if known is None or known.session != storable(session) or known.left_at is not None:
        raise NotFound(f"site {site!r} has another session by now, or none; register again")
    if secured != (known.certificate is not None):
        raise NotFound(f"site {site!r} has registered {_how(not secured)}, this poll comes {_how(secured)}")
    return known


def _how(secured: bool) -> str:
    return "with mutual TLS" if secured else "without mutual TLS"


def _due(tx: Transaction, site: str, request: PollRequest) -> list[Row[Any]]:
    """Works that were handed out before and did not arrive, then new ones up to what is free."""
    mine = select(works).where(works.c.site == site, works.c.id.not_in(request.holding))
    again = mine.where(works.c.state == WorkState.ACCEPTED)
    # Evaluations first: they are short, and a checkpoint waits for them.
    fresh = (
        mine.where(works.c.state == WorkState.OFFERED)
        .order_by(works.c.kind, works.c.created_at)
        .limit(request.free)
    )
    return [*tx.execute(again), *(tx.execute(fresh) if request.free else ())]


def _hand_out(tx: Transaction, site: str, request: PollRequest) -> list[WorkOrder]:
    due = _due(tx, site, request)
    # What a restarted site has kept is its work still, and needs no second order.
    taken = [*(work.id for work in due), *request.holding]
    if taken:
        tx.execute(
            update(works)
            .where(works.c.site == site, works.c.id.in_(taken), works.c.state == WorkState.OFFERED)
            .values(state=WorkState.ACCEPTED, accepted_at=tx.now)
        )
    return [_order(tx, work) for work in due]


def _order(tx: Transaction, work: Row[Any]) -> WorkOrder:
    left_s = tx.time_left(work.deadline, work.deadline - work.created_at)
    told = {"work_id": work.id, "timeout_s": max(0.0, left_s)}
    if trace.is_on():
        told["traceparent"] = trace.of_round(work.job_uid, work.run, work.round).traceparent
    return WorkOrder.model_validate({**work.order, **told})


def _cancellations(tx: Transaction, site: str, holding: tuple[str, ...]) -> list[Cancel]:
    """Works that the site holds and that nobody wants any more."""
    if not holding:
        return []
    found = {
        row.id: row
        for row in tx.execute(
            select(works.c.id, works.c.state, works.c.reason).where(
                works.c.site == site, works.c.id.in_(holding)
            )
        )
    }
    cancelled = []
    for work_id in holding:
        row = found.get(work_id)
        if row is None:
            cancelled.append(Cancel(work_id=work_id, reason="the coordinator does not know this work"))
        elif row.state not in AT_SITE:
            cancelled.append(Cancel(work_id=work_id, reason=row.reason or f"the work is {row.state}"))
    return cancelled


def list_sites(store: Store) -> list[dict[str, Any]]:
    """All sites that ever registered, by name."""

    def step(tx: Transaction) -> list[dict[str, Any]]:
        counted = select(works.c.site, func.count()).where(works.c.state.in_(AT_SITE)).group_by(works.c.site)
        working: dict[str, int] = {name: number for name, number in tx.execute(counted)}  # noqa: C416
        lease_s = store.settings.site_lease_s
        return [
            {
                "name": row.name,
                "address": row.address,
                **{key: row.registration[key] for key in SHOWN},
                "mutual_tls": row.certificate is not None,
                "isolation": row.registration.get("isolation"),  # a site of an earlier version has none
                "online": is_online(tx, row, lease_s),
                "last_seen": rfc3339(row.last_seen),
                "working": working.get(row.name, 0),
            }
            for row in tx.execute(select(sites).where(sites.c.simulates.is_(None)).order_by(sites.c.name))
        ]

    return store.db.read(step)


SHOWN = ("runtimes", "datasets", "entries", "resources", "max_task_parallelism", "allow_scripts")


def is_online(tx: Transaction, site: Row[Any], lease_s: float) -> bool:
    """Whether a site has given a sign of life within the lease and has not left."""
    return site.left_at is None and not tx.has_passed(site.last_seen, lease_s)
