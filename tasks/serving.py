"""The tasks of a rollout: each one library call in a thread, with retries where trying again can help."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from prefect import task

from catchment.serving import claim as claims
from catchment.serving import steps
from catchment.serving.claim import RolloutClaim
from tasks.model_jobs import RETRY
from tasks.observing import observed
from tasks.store import process_store

Found = dict[str, Any]


async def _step(function: Callable[..., Found], claim: RolloutClaim, *more: Any) -> Found:
    with observed(function.__name__, claim):
        return await asyncio.to_thread(function, process_store(), claim, *more)


@task(name="claim rollout", task_run_name="claim {name} {number}", **RETRY)
async def claim_rollout(
    namespace: str, name: str, number: int, flow_run_id: str, attempt: int
) -> RolloutClaim:
    """Take the rollout for this flow run."""
    return await asyncio.to_thread(
        claims.claim, process_store(), namespace, name, number, flow_run_id=flow_run_id, attempt=attempt
    )


@task(name="resolve", task_run_name="resolve the models of {claim.name}", **RETRY)
async def resolve(claim: RolloutClaim) -> Found:
    """Find the versions by digest, convert what the backend does not serve."""
    return await _step(steps.resolve, claim)


@task(name="apply", task_run_name="start the model servers of {claim.name}", **RETRY)
async def apply(claim: RolloutClaim) -> Found:
    """Have the workloads run, without traffic."""
    return await _step(steps.apply, claim)


@task(name="ready", task_run_name="wait for the model servers of {claim.name}", **RETRY)
async def await_ready(claim: RolloutClaim) -> Found:
    """Wait until all of them answer."""
    return await _step(steps.await_ready, claim)


@task(name="smoke", task_run_name="smoke inference of {claim.name}", **RETRY)
async def smoke(claim: RolloutClaim) -> Found:
    """One inference of each model server, made of the stored signature."""
    return await _step(steps.smoke, claim)


@task(name="shift", task_run_name="{percent} % of the traffic of {claim.name}", **RETRY)
async def shift(claim: RolloutClaim, percent: int) -> Found:
    """Give the new version so much of the traffic, and watch it beside the stable one."""
    return await _step(steps.shift, claim, percent)


@task(name="promote", task_run_name="promote {claim.name}", **RETRY)
async def promote(claim: RolloutClaim) -> Found:
    """Give the new version all the traffic."""
    return await _step(steps.promote, claim)


@task(name="retire", task_run_name="retire what was before {claim.name}", **RETRY)
async def retire(claim: RolloutClaim) -> Found:
    """Drain and end what was there before."""
    return await _step(steps.retire, claim)


@task(name="roll back", task_run_name="roll {claim.name} back", **RETRY)
async def roll_back(claim: RolloutClaim, why: str) -> None:
    """Give the stable version all the traffic again, and end what the rollout started."""
    await asyncio.to_thread(steps.roll_back, process_store(), claim, why)
