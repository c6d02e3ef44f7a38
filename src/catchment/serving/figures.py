"""What gateways saw of a workload's traffic: how many requests, how quick, how many failed or disagreed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

from catchment.store.database import Transaction
from catchment.store.schema import serving_figures, servings

BUCKETS_S = tuple(round(1e-4 * 10 ** (step / 8), 9) for step in range(49))
"""Upper bounds of latencies, 0.1 ms to 100 s, eight to a factor of ten: percentiles are right to some 15%."""


@dataclass(frozen=True)
class Figures:
    """Figures of one workload; `later - earlier` are those of the time between two readings.

    Attributes:
        requests: inferences that it answered or failed at.
        errors: answers of 5xx, and connections that broke before an answer.
        seconds: that its answers took together, until their head was there.
        buckets: requests by latency: those up to each of BUCKETS_S, beyond the one before; last the rest.
        compared: requests that the other version of a rollout was asked too.
        disagreed: those of them that it answered otherwise.
    """

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    buckets: tuple[int, ...] = field(default=(0,) * (len(BUCKETS_S) + 1))
    compared: int = 0
    disagreed: int = 0

    @property
    def p50_s(self) -> float:
        """The median latency in seconds; 0 without requests."""
        return quantile(self.buckets, 0.5)

    @property
    def p99_s(self) -> float:
        """What 99 of 100 requests stayed below, in seconds; 0 without requests."""
        return quantile(self.buckets, 0.99)

    def __add__(self, other: Figures) -> Figures:
        return self._with(other, 1)

    def __sub__(self, other: Figures) -> Figures:
        return self._with(other, -1)

    def _with(self, other: Figures, sign: int) -> Figures:
        return Figures(
            self.requests + sign * other.requests,
            self.errors + sign * other.errors,
            self.seconds + sign * other.seconds,
            tuple(a + sign * b for a, b in zip(self.buckets, other.buckets, strict=True)),
            self.compared + sign * other.compared,
            self.disagreed + sign * other.disagreed,
        )


def bucket_of(seconds: float) -> int:
    """Which of the buckets a latency belongs to."""
    return bisect_left(BUCKETS_S, seconds)


def quantile(buckets: Sequence[int], share: float) -> float:
    """The latency that this share of the requests stayed below, in seconds, read off within its bucket."""
    wanted = share * sum(buckets)
    below = 0
    for index, count in enumerate(buckets):
        if count and below + count >= wanted:
            low = BUCKETS_S[index - 1] if index else 0.0
            high = BUCKETS_S[index] if index < len(BUCKETS_S) else low
            return low + (high - low) * (wanted - below) / count
        below += count
    return 0.0


def read(tx: Transaction, uid: str) -> dict[str, Figures]:
    """A serving's figures by workload key, all gateways together."""
    found: dict[str, Figures] = {}
    table = serving_figures
    for row in tx.execute(select(table).where(table.c.serving_uid == uid)):
        one = Figures(row.requests, row.errors, row.seconds, tuple(row.buckets), row.compared, row.disagreed)
        found[row.key] = found.get(row.key, Figures()) + one
    return found


def add(tx: Transaction, gateway: str, seen: Mapping[tuple[str, str], Figures]) -> None:
    """Add what a gateway has seen, by (serving's uid, workload's key), but for servings that are gone."""
    asked = {uid for uid, _ in seen}
    here = set(tx.execute(select(servings.c.uid).where(servings.c.uid.in_(asked))).scalars())
    for uid, key in sorted(seen):
        if uid in here:
            _add(tx, (uid, key, gateway), seen[uid, key])


def _add(tx: Transaction, which: tuple[str, str, str], seen: Figures) -> None:
    table = serving_figures
    insert = (sqlite if tx.connection.dialect.name == "sqlite" else postgresql).insert
    names = dict(zip(("serving_uid", "key", "gateway"), which, strict=True))
    new = insert(table).values(**names, buckets=list(Figures().buckets), updated_at=tx.now)
    tx.execute(new.on_conflict_do_nothing())
    mine = [table.c[name] == value for name, value in names.items()]
    before: Iterable[int] = tx.execute(select(table.c.buckets).where(*mine).with_for_update()).scalar_one()
    tx.execute(
        update(table)
        .where(*mine)
        .values(
            requests=table.c.requests + seen.requests,
            errors=table.c.errors + seen.errors,
            seconds=table.c.seconds + seen.seconds,
            buckets=[a + b for a, b in zip(before, seen.buckets, strict=True)],
            compared=table.c.compared + seen.compared,
            disagreed=table.c.disagreed + seen.disagreed,
            updated_at=tx.now,
        )
    )
