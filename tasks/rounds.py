"""The tasks of a federated job. Each is one library call in a thread, so that the event loop stays free.

Every task may be run twice: the library finds what is done already and goes on from there. Every task has
a deadline, the library's (rounds.deadlines): Prefect's own time limit would leave the thread running with
the right to write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from prefect import task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from catchment.errors import CatchmentError, StepTimedOut, TransferError, Unreachable
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
from catchment.rounds.deadlines import Step, in_time
from catchment.store import Store
from catchment.wire.messages import WorkKind
from tasks.observing import observed
from tasks.store import process_store

P = ParamSpec("P")
T = TypeVar("T")
TRIES_IN_TIME = 2
"""A step that took too long once may find the storage awake; a third try would only hold the job longer."""


async def may_pass(_task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again can help: not when the library says that and why it cannot be done."""
    error = await state.aresult(raise_on_failure=False)
    if isinstance(error, StepTimedOut):
        return run.run_count < TRIES_IN_TIME
    return not isinstance(error, CatchmentError) or isinstance(error, Unreachable | TransferError)


RETRY: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [1, 4, 15],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": may_pass,
    "persist_result": False,
}


async def _step(
    name: str,
    function: Callable[Concatenate[Store, Claim, P], T],
    claim: Claim,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """A library call of a run, in a thread and with a deadline; the first argument is its round, if any."""
    store = process_store()
    number = args[0] if args and isinstance(args[0], int) else None
    with observed(name, claim, number):
        step = Step(name, claim, number)
        return await in_time(store, step, lambda: function(store, claim, *args, **kwargs))


@task(name="claim job", task_run_name="claim {job_id}", **RETRY)
async def claim_run(namespace: str, job_id: str, flow_run_id: str, attempt: int) -> Claim:
    """Take the job for this flow run."""
    store = process_store()
    return await in_time(
        store,
        Step("claim job"),
        lambda: claim_job(store, namespace, job_id, flow_run_id=flow_run_id, attempt=attempt),
    )


@task(name="prepare run", task_run_name="prepare run {claim.run}", **RETRY)
async def prepare_run(claim: Claim) -> str:
    """Read initial weights and scripts, and begin the first round; the weights' digest."""
    return await _step("prepare run", prepare.begin_run, claim)


@task(name="select cohort", task_run_name="select cohort of round {number}", **RETRY)
async def select_cohort(claim: Claim, number: int) -> list[str]:
    """Wait for enough sites and choose the round's cohort; the sites' names."""
    return await _step("select cohort", select.select_cohort, claim, number)


@task(name="broadcast", task_run_name="broadcast to {kind} in round {number}", **RETRY)
async def broadcast(claim: Claim, number: int, kind: WorkKind) -> bool:
    """Call the job's broadcast function for a round's works; whether there are any to publish."""
    return await _step("broadcast", broadcasting.broadcast, claim, number, kind)


@task(name="publish work", task_run_name="publish work of round {number}", **RETRY)
async def publish_work(claim: Claim, number: int) -> int:
    """Offer the round's work to its cohort; how many sites."""
    return await _step("publish work", select.publish_work, claim, number)


@task(name="collect updates", task_run_name="collect updates of round {number}", **RETRY)
async def collect_updates(claim: Claim, number: int) -> Collected:
    """Wait for the cohort's updates and admit them."""
    return await _step("collect updates", collect.collect_updates, claim, number)


@task(name="agree keys", task_run_name="agree keys of round {number}", **RETRY)
async def agree_keys(claim: Claim, number: int) -> int:
    """Pass on the keys and shares of secure aggregation, while the sites train; how many sites take part."""
    return await _step("agree keys", secure.agree_keys, claim, number)


@task(name="unmask", task_run_name="unmask round {number}", **RETRY)
async def unmask(claim: Claim, number: int) -> Collected:
    """Have the survivors confirmed and masks taken off their sum."""
    return await _step("unmask", secure.unmask, claim, number)


@task(name="aggregate and commit", task_run_name="aggregate and commit round {number}", **RETRY)
async def aggregate_and_commit(claim: Claim, number: int) -> str:
    """Aggregate the admitted updates and commit the round; the new weights' digest."""
    return await _step("aggregate and commit", commit.aggregate_and_commit, claim, number)


@task(name="evaluate", task_run_name="evaluate round {number}", **RETRY)
async def evaluate_round(claim: Claim, number: int) -> dict[str, Any] | None:
    """Wait for the sites' evaluation of the new weights; its sample-weighted metrics."""
    return await _step("evaluate", evaluation.evaluate_round, claim, number)


@task(name="save checkpoint", task_run_name="save checkpoint of round {number}", **RETRY)
async def save_checkpoint(claim: Claim, number: int) -> Checkpoint:
    """Save the new weights with their metrics in the namespace's folder."""
    return await _step("save checkpoint", checkpoints.save_checkpoint, claim, number)


@task(name="finish round", task_run_name="finish function of round {number}", **RETRY)
async def finish_round(claim: Claim, number: int) -> list[str]:
    """Call the job's finish function; the files that it made."""
    return await _step("finish round", finishing.finish_round, claim, number)


@task(name="finish run", task_run_name="finish run {claim.run}", **RETRY)
async def finish_run(claim: Claim, reason: str = "") -> dict[str, Any]:
    """Write the run's metrics and end the job as FINISHED, with the reason of an early end; its summary."""
    return await _step("finish run", run.finish_run, claim, reason)
