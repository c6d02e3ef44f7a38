"""The tasks of a ModelJob: each one library call in a thread, with retries where trying again can help."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from prefect import task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from catchment.errors import CatchmentError, TransferError, Unreachable
from catchment.model_jobs import claim as claims
from catchment.model_jobs import pushing, steps
from catchment.model_jobs.claim import ModelJobClaim
from tasks.observing import observed
from tasks.store import process_store

Found = dict[str, Any]


async def may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again can help: storage and database may come back, a model does not get better."""
    error = await state.aresult(raise_on_failure=False)
    return not isinstance(error, CatchmentError) or isinstance(error, Unreachable | TransferError)


RETRY: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [1, 4, 15],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": may_pass,
    "persist_result": False,
}


async def _step(function: Callable[..., Found], claim: ModelJobClaim) -> Found:
    with observed(function.__name__, claim):
        return await asyncio.to_thread(function, process_store(), claim)


@task(name="claim ModelJob", task_run_name="claim {name}", **RETRY)
async def claim_model_job(namespace: str, name: str, flow_run_id: str, attempt: int) -> ModelJobClaim:
    """Take the ModelJob for this flow run."""
    return await asyncio.to_thread(
        claims.claim, process_store(), namespace, name, flow_run_id=flow_run_id, attempt=attempt
    )


@task(name="pull", task_run_name="pull the model of {claim.name}", **RETRY)
async def pull(claim: ModelJobClaim) -> Found:
    """Find the source version and lay its files out."""
    return await _step(steps.pull, claim)


@task(name="extract", task_run_name="extract {claim.name}", **RETRY)
async def extract(claim: ModelJobClaim) -> Found:
    """Read the signature in a confined child."""
    return await _step(steps.extract, claim)


@task(name="convert", task_run_name="convert {claim.name}", **RETRY)
async def convert(claim: ModelJobClaim) -> Found:
    """Convert in an environment of its own, with the gate behind it."""
    return await _step(steps.convert, claim)


@task(name="verify", task_run_name="verify {claim.name}", **RETRY)
async def verify(claim: ModelJobClaim) -> Found:
    """Read the converted files with our own reader."""
    return await _step(steps.verify, claim)


@task(name="push", task_run_name="push the result of {claim.name}", **RETRY)
async def push(claim: ModelJobClaim) -> Found:
    """Put the result where the job says."""
    return await _step(pushing.push, claim)


@task(name="succeed", task_run_name="finish {claim.name}", **RETRY)
async def succeed(claim: ModelJobClaim) -> Found:
    """End the job as Succeeded."""
    return await _step(steps.succeed, claim)
