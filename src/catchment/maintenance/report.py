"""How a store is: jobs by state, sites that are silent, servings that fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from catchment.exchange.sites import is_online
from catchment.serving.states import State
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import jobs, model_jobs, model_versions, servings, sites


@dataclass(frozen=True)
class Report:
    """Numbers, and names of what needs somebody."""

    jobs: dict[str, int]
    model_jobs: dict[str, int]
    versions: dict[str, int]
    sites: int
    silent: tuple[str, ...]
    servings: int
    failed: tuple[str, ...]


def report(store: Store) -> Report:
    """How the store is now. Sites that have said goodbye, and simulated clients, are not counted."""

    def step(tx: Transaction) -> Report:
        mine = sites.c.simulates.is_(None) & sites.c.left_at.is_(None)
        known = tx.execute(select(sites).where(mine).order_by(sites.c.name)).all()
        lease_s = store.settings.site_lease_s
        served = tx.execute(select(servings).order_by(servings.c.namespace, servings.c.name)).all()
        failed = [row for row in served if row.state == State.FAILED]
        return Report(
            jobs=_counts(tx, jobs.c.state),
            model_jobs=_counts(tx, model_jobs.c.phase),
            versions=_counts(tx, model_versions.c.state),
            sites=len(known),
            silent=tuple(row.name for row in known if not is_online(tx, row, lease_s)),
            servings=len(served),
            failed=tuple(f"{row.namespace}/{row.name}: {row.message}" for row in failed),
        )

    return store.db.read(step)


def _counts(tx: Transaction, column: Any) -> dict[str, int]:
    found = tx.execute(select(column, func.count()).group_by(column).order_by(column))
    return {str(value): int(count) for value, count in found}
