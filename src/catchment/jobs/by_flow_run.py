"""Jobs found by the flow run that does their work: for what happens in Prefect first."""

from __future__ import annotations

from sqlalchemy import select

from catchment.errors import WrongState
from catchment.jobs import lifecycle
from catchment.store import Store
from catchment.store.schema import jobs


def request_stop(store: Store, flow_run_id: str) -> None:
    """Stop the job of a flow run that was cancelled in Prefect; nothing when there is none to stop."""
    row = store.db.read(
        lambda tx: tx.execute(
            select(jobs.c.namespace, jobs.c.id).where(jobs.c.flow_run_id == flow_run_id)
        ).first()
    )
    if row is None:
        return
    try:
        lifecycle.request_stop(store, row.namespace, row.id)
    except WrongState:
        return  # it has ended meanwhile
