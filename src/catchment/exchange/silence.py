"""Sites without a sign of life: which of them are gone, and when it was the coordinator that did not hear.

A site is gone when another one was heard a whole lease after it. Time alone tells less: while the API or its
database is away nobody is heard, and every site would seem gone. Then work stays with its sites for as long
as a round would wait for them to come back, and the first that is heard again gives the others a lease's
time to follow.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select, update

from catchment.settings import Settings
from catchment.store.clock import AHEAD_S
from catchment.store.database import Transaction
from catchment.store.schema import sites

POLL_OF_LEASE = 1 / 3
"""A site's request is held open for this part of the lease at most, so each is heard at least so often."""
_OUTAGE_OF_LEASE = 1 / 2
"""Nobody heard for this part of the lease, though one poll a third is due: the coordinator was away."""
_LOOK_AGAIN_OF_LEASE = 1 / 10


def nobody_is_heard(tx: Transaction, lease_s: float) -> bool:
    """Whether no site at all has given a sign of life within the lease, though some have registered."""
    heard = _last_heard(tx)
    return heard is not None and tx.has_passed(heard, lease_s)


def gone_sites(tx: Transaction, settings: Settings, names: Collection[str]) -> tuple[dict[str, float], float]:
    """Those of the sites that are gone with their seconds of silence, and seconds until the next look."""
    heard, lease_s = _last_heard(tx), settings.site_lease_s
    rows = tx.execute(select(sites.c.name, sites.c.last_seen).where(sites.c.name.in_(names)))
    seen: dict[str, float] = {name: last_seen for name, last_seen in rows}  # noqa: C416
    gone, look_s = {}, 60.0
    for name in names:
        if name not in seen:
            gone[name] = lease_s
            continue
        silent_s = tx.now - seen[name]
        overheard = silent_s < -AHEAD_S or (heard is not None and heard - seen[name] > lease_s)
        patience_s = lease_s if overheard else lease_s + settings.cohort_wait_s
        if tx.has_passed(seen[name], patience_s):
            gone[name] = max(lease_s, silent_s)
        else:
            look_s = min(look_s, max(lease_s - silent_s + 0.05, _LOOK_AGAIN_OF_LEASE * lease_s))
    return gone, max(0.1, look_s)


def end_silence(tx: Transaction, lease_s: float) -> None:
    """To be called before a site's sign of life is written down.

    Where the coordinator was away until now, those that were there before count as seen now.
    """
    heard = _last_heard(tx)
    if heard is None or tx.now - heard <= _OUTAGE_OF_LEASE * lease_s:
        return
    there = sites.c.left_at.is_(None) & (sites.c.last_seen >= heard - lease_s)
    # In one order, so that two who end the silence at once do not block each other.
    names = tx.execute(select(sites.c.name).where(there).order_by(sites.c.name).with_for_update())
    tx.execute(update(sites).where(sites.c.name.in_(names.scalars().all())).values(last_seen=tx.now))


def _last_heard(tx: Transaction) -> float | None:
    """The newest sign of life; a time in the future is a relic of a clock that went back."""
    past = sites.c.last_seen <= tx.now + AHEAD_S
    heard: float | None = tx.execute(select(func.max(sites.c.last_seen)).where(past)).scalar()
    return heard
