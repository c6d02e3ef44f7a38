"""What rounds came to, counted from the store as they close.

Rounds are driven by processes that are gone before anybody asks them, so whoever is asked counts: of the jobs
that were signalled since the last look, the rounds that have closed since. Nothing is gone through twice, and
nothing that is at rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Row, func, select

from catchment.jobs.states import BUSY, RoundState
from catchment.observe.registry import LONG_BUCKETS_S, Registry
from catchment.rounds.admission import kind_of_refusal
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import jobs, rounds, works

LATE_S = 60.0
"""A transaction that closed a round is seen so long after its time, at most."""
MOST_JOBS = 1000
"""So many jobs are gone through in one look; the others wait for the next."""
MOST_ROUNDS = 2000
CLOSED = (RoundState.COMMITTED, RoundState.FAILED)
_TOPIC = "job:"
_Key = tuple[str, int, int, int]


class RoundFigures:
    """Counts rounds that close from now on.

    Args:
        store: of the rounds.
        registry: takes the figures.
    """

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._touched: dict[str, float] = {}
        self._missed = True
        self._counted: dict[_Key, float] = {}
        self._since: float | None = None
        self._rounds = registry.counter(
            "catchment_rounds_total", "Rounds that closed, by outcome.", "outcome"
        )
        self._seconds = registry.histogram(
            "catchment_round_seconds", "From a round's publishing to its commit.", bounds=LONG_BUCKETS_S
        )
        self._works = registry.counter(
            "catchment_round_works_total",
            "Sites' trainings in closed rounds by outcome; late ones are stragglers.",
            "outcome",
        )
        self._rejected = registry.counter(
            "catchment_updates_rejected_total", "Updates that were not admitted, by kind of reason.", "reason"
        )
        store.db.signals.listen(self._hear)

    def look(self) -> None:
        """Count what has closed since the last look.

        Raises:
            Unreachable: the database does not answer.
        """
        with self._lock:
            uids = sorted(self._touched, key=self._touched.__getitem__)[:MOST_JOBS]
            more = len(self._touched) > len(uids)
            missed, self._missed = self._missed, False
        try:
            self._store.db.read(lambda tx: self._count(tx, uids, missed, more=more))
        except BaseException:
            self._missed = True
            raise
        over = time.monotonic() - LATE_S
        with self._lock:
            for uid in uids:
                if self._touched[uid] < over:
                    del self._touched[uid]

    def _hear(self, topics: Iterable[str] | None) -> None:
        with self._lock:
            if topics is None:
                self._missed = True
            else:
                now = time.monotonic()
                uids = (topic.removeprefix(_TOPIC) for topic in topics if topic.startswith(_TOPIC))
                self._touched.update((uid, now) for uid in uids)

    def _count(self, tx: Transaction, uids: list[str], missed: bool, *, more: bool) -> None:
        if self._since is None:
            self._since = tx.now
        closed_at = func.coalesce(rounds.c.committed_at, rounds.c.collected_at)
        found = select(rounds, closed_at.label("closed_at")).where(
            rounds.c.state.in_(CLOSED), closed_at >= self._since
        )
        if not self._store.db.is_sqlite:  # whose signals name no job, and whose stores are small
            of: ColumnElement[bool] = rounds.c.job_uid.in_(uids)
            if missed:
                busy = select(jobs.c.uid).where(jobs.c.state.in_(BUSY)).limit(MOST_JOBS)
                of |= rounds.c.job_uid.in_(busy)
            found = found.where(of)
        closed = tx.execute(found.order_by(closed_at).limit(MOST_ROUNDS)).all()
        for row in closed:
            key = (row.job_uid, row.run, row.number, row.attempt)
            if key not in self._counted:
                self._add(tx, row)
                self._counted[key] = row.closed_at
        seen_to = closed[-1].closed_at if len(closed) == MOST_ROUNDS else tx.now - LATE_S
        if not more:
            self._since = max(self._since, min(seen_to, tx.now - LATE_S))
        self._counted = {key: at for key, at in self._counted.items() if at >= self._since}

    def _add(self, tx: Transaction, row: Row[Any]) -> None:
        self._rounds.add(str(row.state))
        if row.state == RoundState.COMMITTED and row.published_at is not None:
            self._seconds.add(max(0.0, row.committed_at - row.published_at))
        mine = (
            (works.c.job_uid == row.job_uid)
            & (works.c.run == row.run)
            & (works.c.round == row.number)
            & (works.c.attempt == row.attempt)
            & (works.c.kind == "train")
        )
        ended = select(works.c.state, func.count().label("number")).where(mine).group_by(works.c.state)
        for state, number in tx.execute(ended):
            self._works.add(str(state), by=number)
        why = select(works.c.reason).where(mine, works.c.state == "rejected")
        for reason in tx.execute(why).scalars():
            self._rejected.add(kind_of_refusal(reason))
