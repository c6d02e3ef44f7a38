"""Who needs a model version just now: it must not be deleted under them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, select

from catchment.errors import WrongState
from catchment.jobs import rows as job_rows
from catchment.jobs.states import BUSY, JobState
from catchment.model_jobs.states import Phase
from catchment.store.database import Transaction
from catchment.store.schema import jobs, model_jobs, serving_workloads


def refuse_used(tx: Transaction, versions: Collection[Row[Any]], *, but: str = "") -> None:
    """Refuse to go on when one of the versions is in use, other than by the ModelJob with the uid `but`.

    Raises:
        WrongState: names the version and who uses it.
    """
    for namespace in {row.namespace for row in versions}:
        mine = {row.id: row for row in versions if row.namespace == namespace}
        owners = {row.job_uid: row for row in versions if row.job_uid is not None}
        for job in _busy(tx, namespace):
            field, value = job_rows.spec_of(job).model_source
            used = mine.get(value) if field != "model_path" else None
            used = used or owners.get(job.uid)
            if used is not None:
                raise WrongState(
                    f"version {used.version!r} of model {used.name!r} is used by job {job.id!r}, "
                    f"which is {job.state}; delete it once the job is over"
                )
    _refuse_worked_on(tx, {row.id: row for row in versions}, but)
    _refuse_served(tx, {row.id: row for row in versions})


def _refuse_worked_on(tx: Transaction, versions: dict[str, Row[Any]], but: str) -> None:
    """Refuse while a ModelJob reads one of them."""
    table = model_jobs.c
    mine = (
        (table.uid != but)
        & table.source_id.in_(list(versions))
        & table.phase.in_((Phase.PENDING, Phase.RUNNING))
    )
    found = tx.execute(select(table.namespace, table.name, table.source_id).where(mine)).first()
    if found is not None:
        used = versions[found.source_id]
        raise WrongState(
            f"version {used.version!r} of model {used.name!r} is read by ModelJob {found.name!r} just now"
        )


def _refuse_served(tx: Transaction, versions: dict[str, Row[Any]]) -> None:
    """Refuse while a model server of one of them runs, or is to be started again when it has ended."""
    for spec in tx.execute(select(serving_workloads.c.spec)).scalars():
        used = versions.get(spec["model"]["model_id"])
        if used is not None:
            serving = spec["serving"]
            raise WrongState(
                f"version {used.version!r} of model {used.name!r} is served by {serving['name']!r} in "
                f"namespace {serving['namespace']!r}; delete it once that serves another"
            )


def _busy(tx: Transaction, namespace: str) -> list[Row[Any]]:
    """Jobs of the namespace that run, or wait to."""
    waits = (jobs.c.state == JobState.QUEUED) & jobs.c.queued_at.is_not(None)
    mine = (jobs.c.namespace == namespace) & (jobs.c.state.in_(BUSY) | waits)
    return list(tx.execute(select(jobs).where(mine)).all())
