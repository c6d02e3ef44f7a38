"""Retraining: flow `retrain` trains, registers, converts, compares with what serves, rolls out if better."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed
from pydantic import Field

from catchment.errors import JobStopped
from catchment.retraining import alive, stopping
from catchment.retraining.outcome import Retrained, reference
from catchment.retraining.plan import RetrainPlan
from flows import retrain_artifacts as artifacts
from tasks import retraining as tasks
from tasks.store import process_store

Plan = Annotated[RetrainPlan, Field(description="What to train, what it is registered as, where it goes.")]


def stop_children(_flow: Flow[Any, Any], run: FlowRun, _state: State) -> None:
    """What Prefect calls when a worker of its own has cancelled the run."""
    stopping.stop_children(process_store(), str(run.id))


@flow(
    name="retrain",
    flow_run_name="retrain {plan.register_as.name}",
    persist_result=False,
    on_cancellation=[stop_children],
)
async def retrain(plan: Plan) -> Any:
    """Train a model again and bring it into production if it is better than the one that serves.

    Safe to run again: each step looks first whether what it makes is there. A run that is cancelled stops its
    job, its ModelJob or its rollout.
    """
    store, run = process_store(), str(flow_run.id)
    with alive.driven(store, run):
        try:
            done = await _steps(plan, run)
        except JobStopped as stopped:
            await asyncio.to_thread(stopping.stop_children, store, run)
            return Cancelled(message=f"stopped: {stopped}")
    return Completed(message=done.reason, data=done.to_json())


async def _steps(plan: RetrainPlan, run: str) -> Retrained:
    store = process_store()
    await tasks.check(plan, run)
    job = await tasks.begin(plan, run)
    registered = await tasks.await_registered(plan, run)
    version = await asyncio.to_thread(reference, store, registered)
    if plan.convert is None:
        return Retrained("registered", f"registered {version}", job, version)
    grafted = await tasks.graft(plan, run, registered)
    made = await tasks.convert(plan, run, grafted)
    served = await asyncio.to_thread(reference, store, made)
    if plan.serving is None:
        return Retrained("registered", f"registered {version}, and {served} of it", job, version, served)
    verdict = await tasks.judge(plan, run, made)
    await artifacts.show_verdict(plan, run, verdict, served)
    if not verdict["passes"]:
        return Retrained("kept", verdict["reason"], job, version, served, verdict)
    number = await tasks.roll_out(plan, run, made)
    told = f"rolled out {served} to {plan.serving.name}: {verdict['reason']}"
    return Retrained("rolled out", told, job, version, served, verdict, number)
