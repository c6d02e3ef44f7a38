"""What the store holds, in figures: looked up when somebody asks, of a bounded number of rows.

A process that counts in its memory knows only what it did itself; flows come and go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import String, cast, func, literal, select, union_all
from sqlalchemy.sql.schema import Column

from catchment.catalog.states import ModelState
from catchment.exchange.sites import is_online
from catchment.jobs.states import JobState
from catchment.model_jobs.states import Phase
from catchment.observe.registry import Gauge, Registry
from catchment.observe.rounds import RoundFigures
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import (
    jobs,
    model_jobs,
    model_versions,
    serving_endpoints,
    serving_rollouts,
    servings,
    sites,
)

MOST = 100_000
"""Rows of one state are counted up to so many; that figure then means: as many, or more."""
MOST_SITES = 10_000


class StoreFigures:
    """Figures of a store's content, and what its rounds have done since this was made."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.registry = registry = Registry()
        self._jobs = registry.gauge("catchment_jobs", "Federated jobs by state.", "state")
        self._waiting = registry.gauge(
            "catchment_oldest_queued_job_seconds", "How long the job that waits longest has waited to start."
        )
        self._versions = registry.gauge("catchment_model_versions", "Model versions by state.", "state")
        self._model_jobs = registry.gauge("catchment_model_jobs", "ModelJobs by phase.", "phase")
        self._servings = registry.gauge("catchment_servings", "Servings by state.", "state")
        self._rollouts = registry.gauge("catchment_rollouts", "Rollouts by phase.", "phase")
        self._endpoints = registry.gauge(
            "catchment_serving_endpoints",
            "Model server processes, or addresses in a cluster, by state.",
            "state",
        )
        self._sites = registry.gauge(
            "catchment_sites", "Sites that ever registered: online, or offline.", "state"
        )
        self._rounds = RoundFigures(store, registry)

    def look(self) -> str:
        """All series, as the store is now.

        Raises:
            Unreachable: the database does not answer.
        """
        self._store.db.read(self._count)
        self._rounds.look()
        return self.registry.text()

    def _count(self, tx: Transaction) -> None:
        _put(self._jobs, JobState, _by_state(tx, jobs.c.state, JobState))
        _put(self._versions, ModelState, _by_state(tx, model_versions.c.state, ModelState))
        _put(self._model_jobs, Phase, _by_state(tx, model_jobs.c.phase, Phase))
        _put(self._servings, (), _by_any_state(tx, servings.c.state))
        _put(self._rollouts, (), _by_any_state(tx, serving_rollouts.c.phase))
        _put(self._endpoints, (), _by_any_state(tx, serving_endpoints.c.state))
        waiting = select(func.min(jobs.c.queued_at)).where(jobs.c.state == JobState.QUEUED)
        since = tx.execute(waiting).scalar()
        self._waiting.set(max(0.0, tx.now - since) if since is not None else 0)
        _put(self._sites, (), self._connected(tx))

    def _connected(self, tx: Transaction) -> dict[str, int]:
        real = select(sites).where(sites.c.simulates.is_(None))
        lease_s = self._store.settings.site_lease_s
        alive = [is_online(tx, row, lease_s) for row in tx.execute(real.limit(MOST_SITES))]
        return {"online": sum(alive), "offline": len(alive) - sum(alive)}


def _by_state(tx: Transaction, column: Column[Any], states: Iterable[str]) -> dict[str, int]:
    """Rows by state, for a column with an index: a bounded range of it for each state."""
    parts: list[Any] = []
    for state in states:
        found = select(column).where(column == state).limit(MOST).subquery()
        parts.append(
            select(
                cast(literal(str(state)), String).label("state"), func.count().label("number")
            ).select_from(found)
        )
    return {row.state: row.number for row in tx.execute(union_all(*parts))}


def _by_any_state(tx: Transaction, column: Column[Any]) -> dict[str, int]:
    """Rows by state, where the table is small, of so many rows at most."""
    some = select(column.label("state")).limit(MOST).subquery()
    grouped = select(some.c.state, func.count().label("number")).group_by(some.c.state)
    return {row.state: row.number for row in tx.execute(grouped)}


def _put(gauge: Gauge, states: Iterable[str], found: dict[str, int]) -> None:
    """Set all series of a gauge; those that there are no more go to 0."""
    known = {labels[0] for labels in gauge.labelled()}
    for state in {*map(str, states), *known, *found}:
        gauge.set(found.get(state, 0), state)
