"""Rollouts: flow `rollout` starts a new version, checks it, shifts the traffic, promotes or rolls back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any

from prefect import flow
from prefect.flow_runs import suspend_flow_run
from prefect.runtime import flow_run
from prefect.states import Cancelled
from pydantic import Field

from catchment.errors import CatchmentError, JobStopped, LeaseLost
from catchment.jobs.spec import NAMESPACE
from catchment.serving import steps
from catchment.serving.claim import RolloutClaim, lease_kept
from catchment.serving.spec import LABEL
from flows import rollout_artifacts as artifacts
from tasks import serving as tasks
from tasks.observing import observed_run
from tasks.store import process_store

Namespace = Annotated[str, Field(pattern=NAMESPACE, description="Namespace of the serving.")]
Name = Annotated[str, Field(pattern=LABEL, description="Name of the serving in its namespace.")]
Number = Annotated[int, Field(ge=1, description="Number of the rollout, which the API has made.")]
SUSPENDED_S = 30 * 86_400
"""Prefect keeps a run that waits for approval for so long; the rollout's own limit is shorter."""


@flow(name="rollout", flow_run_name="{name}-{number}", persist_result=False)
async def rollout(name: Name, number: Number, namespace: Namespace = "default") -> Any:
    """Drive a rollout of a serving: its traffic goes to the new version step by step, or stays where it was.

    Safe to run again: a finished step is not repeated. A run that waits for approval is suspended; resuming
    it in the Prefect UI approves.
    """
    try:
        claim = await tasks.claim_rollout(
            namespace, name, number, str(flow_run.id), int(flow_run.run_count or 1)
        )
    except JobStopped as stopped:
        return Cancelled(message=str(stopped))
    claim = replace(claim)  # a copy: Prefect would draw an edge from the claiming task to everything given it
    with observed_run("rollout", claim) as span, lease_kept(process_store(), claim):
        asks = await _driven(claim)
        if asks is True:
            span.drop()  # whoever goes on with it records it
    if asks is True:
        await suspend_flow_run(timeout=SUSPENDED_S)
    return asks


async def _driven(claim: RolloutClaim) -> Any:
    """The steps, with an end in the store whatever happens; True when a person is to be asked first."""
    try:
        return await _steps(claim)
    except JobStopped as stopped:
        await _back(claim, str(stopped))
        return Cancelled(message=f"rollout {claim.number} of {claim.name} stopped: {stopped}")
    except LeaseLost:
        raise  # another process drives it; it is no business of ours any more
    except Exception as error:
        words = str(error) if isinstance(error, CatchmentError) else f"{type(error).__name__}: {error}"
        await _back(claim, words, error)
        raise


async def _back(claim: RolloutClaim, why: str, error: Exception | None = None) -> None:
    """The traffic first, then the page: a Prefect server that is slow to take it keeps nothing waiting."""
    try:
        await tasks.roll_back(claim, why)
    finally:
        await artifacts.show_end(claim, error)


async def _steps(claim: RolloutClaim) -> Any:
    store = process_store()
    await tasks.resolve(claim)
    await tasks.apply(claim)
    await tasks.await_ready(claim)
    await tasks.smoke(claim)
    for percent in await asyncio.to_thread(steps.plan, store, claim):
        seen = await tasks.shift(claim, percent)
        await artifacts.show_step(claim, percent, seen)
        if await asyncio.to_thread(steps.ask_approval, store, claim):
            return True
    if await asyncio.to_thread(steps.ask_approval, store, claim):
        return True
    await tasks.promote(claim)
    await tasks.retire(claim)
    await artifacts.show_end(claim)
    return f"{claim.namespace}/{claim.name}"
