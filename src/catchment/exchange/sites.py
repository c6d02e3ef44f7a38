"""Sites: who they are, whether they live, and the work that they are handed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, func, insert, select, update

from catchment.errors import NotFound, Refused
from catchment.jobs.rows import site_topic, topic
from catchment.jobs.states import AT_SITE, WorkState
from catchment.jobs.times import rfc3339
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


def register(store: Store, site: str, registration: Registration) -> Registered:
    """Take a site in, or welcome it back. Work that an earlier process of it held is offered again.

    Raises:
        Refused: the agent speaks another version of the protocol.
    """
    if registration.protocol != PROTOCOL:
        raise Refused(
            f"protocol: this coordinator speaks version {PROTOCOL} of the exchange, "
            f"the site's agent version {registration.protocol}; install matching versions"
        )
    values = {
        "address": registration.address,
        "session": registration.session,
        "registration": registration.model_dump(mode="json"),
        "registered_at": 0.0,
        "last_seen": 0.0,
        "left_at": None,
    }

    def step(tx: Transaction) -> None:
        stamped = {**values, "registered_at": tx.now, "last_seen": tx.now}
        known = tx.execute(select(sites.c.session).where(sites.c.name == site).with_for_update()).first()
        if known is None:
            tx.execute(insert(sites).values(name=site, **stamped))
        else:
            tx.execute(update(sites).where(sites.c.name == site).values(**stamped))
        if known is not None and known.session != registration.session:
            tx.execute(
                update(works)
                .where(works.c.site == site, works.c.state == WorkState.ACCEPTED)
                .values(state=WorkState.OFFERED)
            )
        tx.notify(SITES_TOPIC)

    store.db.write(step)
    return Registered(lease_s=store.settings.site_lease_s, poll_s=store.settings.site_poll_s)


def leave(store: Store, site: str) -> None:
    """A site says that it goes: its open work is lost at once instead of after the lease."""

    def step(tx: Transaction) -> None:
        tx.execute(update(sites).where(sites.c.name == site).values(left_at=tx.now))
        lose_works(tx, [site], "the site's agent was shut down")
        tx.notify(SITES_TOPIC)

    store.db.write(step)


def lose_works(tx: Transaction, names: Collection[str], reason: str) -> None:
    """Give up the open work of sites that are gone; the jobs hear of it."""
    open_works = works.c.site.in_(names) & works.c.state.in_(AT_SITE)
    uids = tx.execute(select(works.c.job_uid).where(open_works).distinct()).scalars().all()
    tx.execute(
        update(works).where(open_works).values(state=WorkState.LOST, reason=reason, finished_at=tx.now)
    )
    tx.notify(*(topic(uid) for uid in uids))


async def poll(store: Store, site: str, request: PollRequest) -> PollAnswer:
    """New work and cancellations, as soon as there are any; empty when the time is over.

    Raises:
        NotFound: the site is not registered, or another process registered under its name since.
    """
    deadline = time.monotonic() + min(request.wait_s, store.settings.site_lease_s / 2)
    while True:
        ticket = store.db.signals.ticket(site_topic(site))
        answer = await asyncio.to_thread(answer_now, store, site, request)
        left = deadline - time.monotonic()
        if answer.work or answer.cancel or left <= 0:
            return answer
        await store.db.signals.wait_async(ticket, left)


def answer_now(store: Store, site: str, request: PollRequest) -> PollAnswer:
    """What there is to say to a site now; counts as its sign of life. Handing out twice is harmless.

    Raises:
        NotFound: as `poll`.
    """

    def step(tx: Transaction) -> PollAnswer:
        known = tx.execute(select(sites).where(sites.c.name == site)).first()
        if known is None or known.session != request.session or known.left_at is not None:
            raise NotFound(f"site {site!r} is not registered with this session; register again")
        if tx.now - known.last_seen > store.settings.site_lease_s:
            tx.notify(SITES_TOPIC)  # it is back: rounds that wait for sites should look again
        tx.execute(update(sites).where(sites.c.name == site).values(last_seen=tx.now))
        return PollAnswer(
            work=tuple(_hand_out(tx, site, request)), cancel=tuple(_cancellations(tx, site, request.holding))
        )

    return store.db.write(step)


def _hand_out(tx: Transaction, site: str, request: PollRequest) -> list[WorkOrder]:
    """Works that were handed out before and did not arrive, then new ones up to what is free."""
    mine = select(works).where(works.c.site == site)
    again = mine.where(works.c.state == WorkState.ACCEPTED, works.c.id.not_in(request.holding))
    # Evaluations first: they are short, and a checkpoint waits for them.
    fresh = (
        mine.where(works.c.state == WorkState.OFFERED)
        .order_by(works.c.kind, works.c.created_at)
        .limit(request.free)
    )
    orders = []
    for work in [*tx.execute(again), *(tx.execute(fresh) if request.free else ())]:
        if work.state == WorkState.OFFERED:
            tx.execute(
                update(works)
                .where(works.c.id == work.id, works.c.state == WorkState.OFFERED)
                .values(state=WorkState.ACCEPTED, accepted_at=tx.now)
            )
        orders.append(_order(work, tx.now))
    return orders


def _order(work: Row[Any], now: float) -> WorkOrder:
    return WorkOrder.model_validate(
        {**work.order, "work_id": work.id, "timeout_s": max(0.0, work.deadline - now)}
    )


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
                "isolation": row.registration.get("isolation"),  # a site of an earlier version has none
                "online": is_online(row, tx.now, lease_s),
                "last_seen": rfc3339(row.last_seen),
                "working": working.get(row.name, 0),
            }
            for row in tx.execute(select(sites).order_by(sites.c.name))
        ]

    return store.db.read(step)


SHOWN = ("runtimes", "datasets", "entries", "resources", "max_task_parallelism", "allow_scripts")


def is_online(site: Row[Any], now: float, lease_s: float) -> bool:
    """Whether a site has given a sign of life within the lease and has not left."""
    return site.left_at is None and now - site.last_seen <= lease_s
