"""ModelJobs: flow `model_job` pulls a version, extracts or converts and verifies it, pushes the result."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Cancelled
from pydantic import Field

from catchment.errors import GateFailed, JobStopped, LeaseLost
from catchment.jobs.spec import NAMESPACE
from catchment.model_jobs import steps
from catchment.model_jobs.claim import ModelJobClaim, lease_kept
from catchment.model_jobs.spec import NAME
from flows import model_job_artifacts as artifacts
from tasks import model_jobs as tasks
from tasks.observing import observed_run
from tasks.store import process_store

Namespace = Annotated[str, Field(pattern=NAMESPACE, description="Namespace of the ModelJob.")]
Name = Annotated[str, Field(pattern=f"^{NAME}$", description="Name of the ModelJob in its namespace.")]
BETWEEN = {steps.EXTRACT: tasks.extract, steps.CONVERT: tasks.convert, steps.VERIFY: tasks.verify}


@flow(name="model_job", flow_run_name="{name}", persist_result=False)
async def model_job(name: Name, namespace: Namespace = "default") -> Any:
    """Work a ModelJob off; the id of the version that it made or changed.

    Safe to run again: a finished step is not repeated.
    """
    try:
        claim = await tasks.claim_model_job(namespace, name, str(flow_run.id), int(flow_run.run_count or 1))
    except JobStopped as stopped:
        return Cancelled(message=str(stopped))
    # A copy: Prefect would draw an edge from the claiming task to everything that is given its result.
    claim = replace(claim)
    with observed_run("model_job", claim), lease_kept(process_store(), claim):
        return await _driven(claim)


async def _driven(claim: ModelJobClaim) -> Any:
    """The steps, with an end in the store whatever happens."""
    store = process_store()
    try:
        return await _steps(claim)
    except JobStopped as stopped:
        await asyncio.to_thread(steps.stop, store, claim)
        return Cancelled(message=f"ModelJob {claim.name} stopped: {stopped}")
    except LeaseLost:
        raise  # another process works on it; its phase is no business of ours any more
    except Exception as error:
        await asyncio.to_thread(steps.fail, store, claim, error)
        if isinstance(error, GateFailed):
            await artifacts.show_refused(claim, error.report)
        raise


async def _steps(claim: ModelJobClaim) -> str:
    await tasks.pull(claim)
    for step in await asyncio.to_thread(steps.plan, process_store(), claim):
        found = await BETWEEN[step](claim)
        await artifacts.show(claim, step, found)
    pushed = await tasks.push(claim)
    await tasks.succeed(claim)
    return str(pushed["modelID"])
