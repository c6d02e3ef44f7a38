"""The tasks of maintenance: each one library call in a thread."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from prefect import task

from catchment.maintenance import report as reports
from catchment.maintenance import sweeping, verifying
from catchment.maintenance.plan import MaintainPlan
from tasks.model_jobs import RETRY
from tasks.store import process_store

Found = dict[str, Any]


@task(name="remove what nothing refers to", **RETRY)
async def sweep(plan: MaintainPlan) -> Found:
    """What was removed, and what is there."""
    store = process_store()
    found = await asyncio.to_thread(sweeping.sweep, store, grace_s=plan.grace_s, dry_run=plan.dry_run)
    return asdict(found)


@task(name="hash blobs again", **RETRY)
async def verify(plan: MaintainPlan, part: int) -> Found:
    """What was hashed, and what is broken."""
    bounds = {"part": part, "parts": plan.parts, "most_bytes": plan.most_bytes}
    return asdict(await asyncio.to_thread(verifying.verify, process_store(), **bounds))


@task(name="report", **RETRY)
async def report() -> Found:
    """How the store is."""
    return asdict(await asyncio.to_thread(reports.report, process_store()))
