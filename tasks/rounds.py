"""The tasks of a federated job. Each is one library call in a thread, so that the event loop stays free.

Every task may be run twice: the library finds what is done already and goes on from there.
"""

from __future__ import annotations

import asyncio
from typing import Any

from prefect import task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from catchment.errors import CatchmentError, TransferError, Unreachable
from catchment.rounds import (
    broadcasting,
    checkpoints,
    collect,
    commit,
    evaluation,
    finishing,
    prepare,
    run,
    secure,
    select,
)
from catchment.rounds.checkpoints import Checkpoint
from catchment.rounds.claim import Claim, claim_job
from catchment.rounds.collect import Collected
from catchment.wire.messages import WorkKind
from tasks.store import process_store


async def may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again can help: not when the library says that and why it cannot be done."""
    error = await state.aresult(raise_on_failure=False)
    return not isinstance(error, CatchmentError) or isinstance(error, Unreachable | TransferError)


RETRY: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [1, 4, 15],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": may_pass,
    "persist_result": False,
}


@task(name="claim job", task_run_name="claim {job_id}", **RETRY)
async def claim_run(namespace: str, job_id: str, flow_run_id: str, attempt: int) -> Claim:
    """Take the job for this flow run."""
    return await asyncio.to_thread(
        claim_job, process_store(), namespace, job_id, flow_run_id=flow_run_id, attempt=attempt
    )


@task(name="prepare run", task_run_name="prepare run {claim.run}", **RETRY)
async def prepare_run(claim: Claim) -> str:
    """Read initial weights and scripts; the weights' digest."""
    return await asyncio.to_thread(prepare.prepare_run, process_store(), claim)


@task(name="select cohort", task_run_name="select cohort of round {number}", **RETRY)
async def select_cohort(claim: Claim, number: int) -> list[str]:
    """Wait for enough sites and choose the round's cohort; the sites' names."""
    return await asyncio.to_thread(select.select_cohort, process_store(), claim, number)


@task(name="broadcast", task_run_name="broadcast to {kind} in round {number}", **RETRY)
async def broadcast(claim: Claim, number: int, kind: WorkKind) -> bool:
    """Call the job's broadcast function for a round's works; whether there are any to publish."""
    return await asyncio.to_thread(broadcasting.broadcast, process_store(), claim, number, kind)


@task(name="publish work", task_run_name="publish work of round {number}", **RETRY)
async def publish_work(claim: Claim, number: int) -> int:
    """Offer the round's work to its cohort; how many sites."""
    return await asyncio.to_thread(select.publish_work, process_store(), claim, number)


@task(name="collect updates", task_run_name="collect updates of round {number}", **RETRY)
async def collect_updates(claim: Claim, number: int) -> Collected:
    """Wait for the cohort's updates and admit them."""
    return await asyncio.to_thread(collect.collect_updates, process_store(), claim, number)


@task(name="agree keys", task_run_name="agree keys of round {number}", **RETRY)
async def agree_keys(claim: Claim, number: int) -> int:
    """Pass on the keys and shares of secure aggregation, while the sites train; how many sites take part."""
    return await asyncio.to_thread(secure.agree_keys, process_store(), claim, number)


@task(name="unmask", task_run_name="unmask round {number}", **RETRY)
async def unmask(claim: Claim, number: int) -> Collected:
    """Have the survivors confirmed and masks taken off their sum."""
    return await asyncio.to_thread(secure.unmask, process_store(), claim, number)


@task(name="aggregate and commit", task_run_name="aggregate and commit round {number}", **RETRY)
async def aggregate_and_commit(claim: Claim, number: int) -> str:
    """Aggregate the admitted updates and commit the round; the new weights' digest."""
    return await asyncio.to_thread(commit.aggregate_and_commit, process_store(), claim, number)


@task(name="evaluate", task_run_name="evaluate round {number}", **RETRY)
async def evaluate_round(claim: Claim, number: int) -> dict[str, Any] | None:
    """Wait for the sites' evaluation of the new weights; its sample-weighted metrics."""
    return await asyncio.to_thread(evaluation.evaluate_round, process_store(), claim, number)


@task(name="save checkpoint", task_run_name="save checkpoint of round {number}", **RETRY)
async def save_checkpoint(claim: Claim, number: int) -> Checkpoint:
    """Save the new weights with their metrics in the namespace's folder."""
    return await asyncio.to_thread(checkpoints.save_checkpoint, process_store(), claim, number)


@task(name="finish round", task_run_name="finish function of round {number}", **RETRY)
async def finish_round(claim: Claim, number: int) -> list[str]:
    """Call the job's finish function; the files that it made."""
    return await asyncio.to_thread(finishing.finish_round, process_store(), claim, number)


@task(name="finish run", task_run_name="finish run {claim.run}", **RETRY)
async def finish_run(claim: Claim) -> dict[str, Any]:
    """Write the run's metrics and end the job as FINISHED; its summary."""
    return await asyncio.to_thread(run.finish_run, process_store(), claim)
