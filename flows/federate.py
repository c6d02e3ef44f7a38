"""The rounds of a federated job: flow `federate`, and a subflow `federated_round` for each round."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled
from pydantic import Field

from catchment.errors import BudgetSpent, CatchmentError, JobStopped, LeaseLost, RoundFailed
from catchment.jobs.spec import JOB_ID, NAMESPACE
from catchment.observe.trace import is_on
from catchment.rounds import privacy, run
from catchment.rounds.claim import Claim, lease_kept
from catchment.rounds.select import MAX_ATTEMPTS
from flows import artifacts
from tasks import rounds
from tasks.observing import observed_round, observed_run
from tasks.store import process_store

Namespace = Annotated[str, Field(pattern=NAMESPACE, description="Namespace of the job.")]
JobId = Annotated[str, Field(pattern=JOB_ID, description="Id of the job in its namespace.")]


@flow(name="federate", flow_run_name="{job_id}", persist_result=False)
async def federate(job_id: JobId, namespace: Namespace = "default") -> Any:
    """Run what is left of a federated job; the final weights' digest.

    Safe to run again: it begins after the last round that the store has committed. A job that rests is
    started by this, as `:start` would.
    """
    try:
        claim = await rounds.claim_run(namespace, job_id, str(flow_run.id), int(flow_run.run_count or 1))
    except JobStopped as stopped:
        return Cancelled(message=str(stopped))
    # A copy: Prefect would draw an edge from the claiming task to everything that is given its result.
    claim = replace(claim)
    with observed_run("federate", claim), lease_kept(process_store(), claim):
        return await _driven(claim)


async def _driven(claim: Claim) -> Any:
    """The run, with an end in the store whatever happens."""
    store = process_store()
    try:
        return await _rounds(claim)
    except JobStopped as stopped:
        await asyncio.to_thread(run.stop_run, store, claim)
        return Cancelled(message=f"job {claim.job_id} stopped: {stopped}")
    except LeaseLost:
        raise  # another process drives the job; its state is no business of ours any more
    except Exception as error:
        reason = str(error) if isinstance(error, CatchmentError) else f"{type(error).__name__}: {error}"
        await asyncio.to_thread(run.fail_run, store, claim, reason)
        raise


async def _rounds(claim: Claim) -> str:
    """Prepare, all remaining rounds, finish."""
    await rounds.prepare_run(claim)
    remaining = await asyncio.to_thread(run.remaining_rounds, process_store(), claim)
    progress = await artifacts.Progress.begin(claim, remaining)
    spent = ""
    for number in remaining:
        if spent := await asyncio.to_thread(privacy.budget_spent, process_store(), claim, number):
            break
        state: State[Any] = await federated_round(claim, number, return_state=True)
        if state.is_cancelled():
            raise JobStopped(state.message or "the round was cancelled")
        try:
            await state.aresult()
        except BudgetSpent as late:  # the sites changed since it was asked
            spent = str(late)
            break
        await progress.move(number, remaining.stop - 1)
    if spent:
        await _ended_early(claim, number - 1, spent)
    summary = await rounds.finish_run(claim, spent)
    await artifacts.close(claim, summary)
    return str(summary["weights"])


async def _ended_early(claim: Claim, last: int, reason: str) -> None:
    """Evaluate and save the last round of a run whose privacy budget allows no more.

    A broadcast function is called for evaluations that were due from the start, so the last round of such a
    job is saved without one.
    """
    if last < 1:
        raise BudgetSpent(reason)
    extended = await asyncio.to_thread(run.extender_steps, process_store(), claim)
    if "broadcast" not in extended:
        await rounds.evaluate_round(claim, last)
    await rounds.save_checkpoint(claim, last)


@flow(name="federated_round", flow_run_name="{claim.job_id} round {number}", persist_result=False)
async def federated_round(claim: Claim, number: int) -> Any:
    """One round: select, publish, collect, aggregate and commit, evaluate and save where due.

    A committed round confirms each step without doing it again. The commit has published the next round
    already, or, with a broadcast function, this does so at once: the sites train while this round is
    evaluated and written down.
    """
    began = await asyncio.to_thread(run.round_began, process_store(), claim, number) if is_on() else None
    with observed_round(claim, number, began):
        return await _round(claim, number)


async def _round(claim: Claim, number: int) -> Any:
    """Its steps."""
    try:
        extended = await asyncio.to_thread(run.extender_steps, process_store(), claim)
        masked = await asyncio.to_thread(run.is_masked, process_store(), claim)
        await _trained(claim, number, extended, masked)
        if "broadcast" in extended:
            await _broadcast_ahead(claim, number)
        evaluate, save = await asyncio.to_thread(run.steps_due, process_store(), claim, number)
        if evaluate:
            await rounds.evaluate_round(claim, number)
        if save:
            await rounds.save_checkpoint(claim, number)
        if "finish" in extended:
            await rounds.finish_round(claim, number)
        await artifacts.report_round(claim, number)
    except JobStopped as stopped:
        return Cancelled(message=str(stopped))


async def _broadcast_ahead(claim: Claim, number: int) -> None:
    """What the commit itself does without a broadcast function: offer the evaluation and the next round."""
    await rounds.broadcast(claim, number, "evaluate")
    if await rounds.broadcast(claim, number + 1, "train"):
        await rounds.publish_work(claim, number + 1)


async def _trained(claim: Claim, number: int, extended: frozenset[str], masked: bool) -> None:
    """Attempts until the round is committed; the library counts them and ends them."""
    for _ in range(MAX_ATTEMPTS + 1):
        await rounds.select_cohort(claim, number)
        if "broadcast" in extended:
            await rounds.broadcast(claim, number, "train")
        await rounds.publish_work(claim, number)
        if masked:
            await rounds.agree_keys(claim, number)
        collected = await rounds.collect_updates(claim, number)
        if masked and collected.enough:
            collected = await rounds.unmask(claim, number)
        if collected.enough:
            await rounds.aggregate_and_commit(claim, number)
            return
        await artifacts.report_round(claim, number)
    raise RoundFailed(f"round {number} failed")
