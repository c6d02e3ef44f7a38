"""The tasks of a retraining: each one library call in a thread, with retries where trying again can help."""

from __future__ import annotations

import asyncio
from typing import Any

from prefect import get_run_logger, task

from catchment.retraining import checking, converting, gate, rolling, training
from catchment.retraining.plan import RetrainPlan
from tasks.model_jobs import RETRY
from tasks.store import process_store


@task(name="check the plan", **RETRY)
async def check(plan: RetrainPlan, run: str) -> None:
    """Refuse now what a later step would refuse, unless the run is under way already."""
    await asyncio.to_thread(checking.check_new, process_store(), plan, run)


@task(name="begin training", **RETRY)
async def begin(plan: RetrainPlan, run: str) -> str:
    """Make the job and have it started; its id."""
    return await asyncio.to_thread(training.begin, process_store(), plan, run)


@task(name="wait for the job", **RETRY)
async def await_registered(plan: RetrainPlan, run: str) -> str:
    """Wait until it has finished; the id of the version that it registered."""
    say = get_run_logger().info
    return await asyncio.to_thread(training.await_registered, process_store(), plan, run, say)


@task(name="put the weights into their graph", **RETRY)
async def graft(plan: RetrainPlan, run: str, model_id: str) -> str:
    """Register the weights in their graph; the version's id."""
    return await asyncio.to_thread(converting.graft, process_store(), plan, run, model_id)


@task(name="convert", **RETRY)
async def convert(plan: RetrainPlan, run: str, grafted_id: str) -> str:
    """Have a ModelJob read or convert it; the id of the version to serve."""
    say = get_run_logger().info
    return await asyncio.to_thread(converting.convert, process_store(), plan, run, grafted_id, say)


@task(name="compare with what serves", **RETRY)
async def judge(plan: RetrainPlan, run: str, model_id: str) -> dict[str, Any]:
    """What the gate says of the new version."""
    verdict = await asyncio.to_thread(gate.judge, process_store(), plan, run, model_id)
    return verdict.to_json()


@task(name="roll out", **RETRY)
async def roll_out(plan: RetrainPlan, run: str, model_id: str) -> int:
    """Roll it out and wait for the end; the rollout's number."""
    say = get_run_logger().info
    return await asyncio.to_thread(rolling.roll_out, process_store(), plan, run, model_id, say)
