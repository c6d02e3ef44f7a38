"""ModelJobs as a kind of thing that has flow runs (runs.supervise)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select

from catchment.errors import CatchmentError
from catchment.model_jobs import manager, rows
from catchment.model_jobs.executing import executor
from catchment.model_jobs.states import BUSY, STOPPED, Phase
from catchment.runs import leases
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_jobs

log = logging.getLogger(__name__)
DEPLOYMENT = "model_job/model_job"


@dataclass(frozen=True)
class ModelJobStart:
    """A ModelJob for which a flow run is to be made (jobs.launcher.Launchable)."""

    uid: str
    namespace: str
    name: str

    @property
    def key(self) -> str:
        """One run for each ModelJob."""
        return f"modeljob-{self.uid}"

    @property
    def deployment(self) -> str:
        """The flow `model_job`."""
        return DEPLOYMENT

    @property
    def run_name(self) -> str:
        """The job's name."""
        return self.name

    @property
    def parameters(self) -> dict[str, str]:
        """The flow's."""
        return {"namespace": self.namespace, "name": self.name}


class ModelJobs:
    """As `runs.supervise.Kind`."""

    def busy(self, tx: Transaction) -> Iterable[Row[Any]]:
        """Those that have not ended."""
        mine = select(model_jobs).where(model_jobs.c.phase.in_(BUSY))
        return tx.execute(mine.order_by(model_jobs.c.phase_since))

    def name(self, row: Row[Any]) -> str:
        """For log lines."""
        return f"modeljob={row.namespace}/{row.name}"

    def subject(self, row: Row[Any]) -> str:
        """The job's own trace."""
        return str(row.uid)

    def start(self, row: Row[Any]) -> ModelJobStart:
        """What a flow run is made for."""
        return ModelJobStart(row.uid, row.namespace, row.name)

    def waits(self, row: Row[Any]) -> bool:
        """Whether no run has begun to work on it."""
        return bool(row.phase == Phase.PENDING)

    def locked(self, tx: Transaction, row: Row[Any]) -> Row[Any]:
        """The row as it is now, locked."""
        return rows.by_uid(tx, row.uid, lock=True)

    def change(self, tx: Transaction, row: Row[Any], **values: Any) -> None:
        """Set columns."""
        rows.change(tx, row.uid, **values)

    def lost(self, tx: Transaction, row: Row[Any], flow_run_id: str) -> None:
        """It waits again, for this run."""
        message = "the flow process was lost; the job goes on after its last finished step"
        free = {"lease_owner": None, "lease_until": 0.0, "resumes": row.resumes + 1}
        rows.change(tx, row.uid, phase=Phase.PENDING, message=message, flow_run_id=flow_run_id, **free)
        rows.event(tx, row.uid, "Lost", message, "Warning")

    def fail(self, store: Store, row: Row[Any], message: str) -> None:
        """End it as Failed unless somebody works on it again."""
        _forget(store, row)

        def step(tx: Transaction) -> None:
            current = rows.by_uid(tx, row.uid, lock=True)
            over = leases.is_over(tx, current, store.settings.job_lease_s)
            if current.phase == row.phase and over and current.phase in (Phase.PENDING, Phase.RUNNING):
                rows.end(tx, row.uid, Phase.FAILED, message)

        store.db.write(step)

    def finish_stop(self, store: Store, row: Row[Any]) -> None:
        """End or remove it."""
        _forget(store, row)
        if row.phase == Phase.DELETING:
            manager.purge_model_job(store, row.uid)
        else:
            self.fail(store, row, STOPPED)


def _forget(store: Store, row: Row[Any]) -> None:
    """Take away what still runs of it elsewhere; where nobody answers, that has deadlines of its own."""
    try:
        executor(store).forget(store, row.namespace, row.uid)
    except CatchmentError as error:
        log.warning("modeljob=%s/%s: what it left is not taken away: %s", row.namespace, row.name, error)
