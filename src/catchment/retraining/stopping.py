"""Stopping what a retraining works on just now: its job, its ModelJob, its rollout."""

from __future__ import annotations

from sqlalchemy import select

from catchment.catalog.audit import Actor
from catchment.errors import NotFound, WrongState
from catchment.jobs import lifecycle
from catchment.jobs.states import JobState
from catchment.model_jobs import rows as model_job_rows
from catchment.model_jobs.states import BUSY as WORKING
from catchment.retraining import naming
from catchment.serving import deciding
from catchment.serving.states import LIVE
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import jobs, model_jobs, serving_rollouts, servings

GOES_ON = (JobState.QUEUED, JobState.STARTING, JobState.RUNNING)


def stop_children(store: Store, run: str) -> None:
    """Stop what a run has started and what still goes on; nothing where there is nothing. Safe to repeat.

    A ModelJob is told to stop; a rollout goes back to what was before it.
    """
    name = naming.child(run)
    for namespace in store.db.read(lambda tx: _namespaces_of_job(tx, name)):
        try:
            lifecycle.request_stop(store, namespace, name)
        except (NotFound, WrongState):
            continue
    store.db.write(lambda tx: _stop_model_jobs(tx, name))
    for namespace, serving in store.db.read(lambda tx: _rolling(tx, name)):
        try:
            deciding.stop_rollout(store, namespace, serving, Actor(name))
        except (NotFound, WrongState):
            continue  # it has ended, or was deleted meanwhile


def _namespaces_of_job(tx: Transaction, name: str) -> list[str]:
    mine = (jobs.c.id == name) & jobs.c.state.in_(GOES_ON)
    return list(tx.execute(select(jobs.c.namespace).where(mine)).scalars())


def _stop_model_jobs(tx: Transaction, name: str) -> None:
    mine = (model_jobs.c.name == name) & model_jobs.c.phase.in_(WORKING)
    for row in tx.execute(
        select(model_jobs).where(mine & ~model_jobs.c.stop_requested).with_for_update()
    ).all():
        model_job_rows.change(tx, row.uid, stop_requested=True, message="stop was asked for")
        model_job_rows.event(tx, row.uid, "Stopping", "stop was asked for", "Warning")


def _rolling(tx: Transaction, name: str) -> list[tuple[str, str]]:
    named = select(serving_rollouts.c.created_by, servings.c.namespace, servings.c.name)
    joined = named.join(servings, servings.c.uid == serving_rollouts.c.serving_uid)
    found = tx.execute(joined.where(serving_rollouts.c.phase.in_(LIVE))).all()
    return [(row.namespace, row.name) for row in found if row.created_by.get("login") == name]
