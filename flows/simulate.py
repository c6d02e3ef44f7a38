"""A job with simulated clients: flow `simulate` runs flow `federate` and the fleet beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from pydantic import Field

from catchment.errors import SetupError
from catchment.simulation import fleet
from catchment.simulation.fleet import Fleet
from catchment.simulation.inputs import check_simulated
from flows.federate import JobId, Namespace, federate
from tasks.simulation import simulate_clients
from tasks.store import process_store

CHUNKS_PER_WORKER = 2
"""More than one, so that a slow chunk leaves work for the others; few, since each is a task run."""
LOOK_AGAIN_S = 5.0
STATE_WAIT_S = 60.0
Clients = Annotated[int, Field(ge=1, le=fleet.MAX_CLIENTS, description="How many clients there are.")]


def task_runner() -> TaskRunner[Any]:
    """The engine that runs the chunks: CATCHMENT_TASK_RUNNER = process (default), thread, dask or ray.

    Raises:
        SetupError: it is none of these, or its package is not installed.
    """
    name = os.environ.get("CATCHMENT_TASK_RUNNER", "process")
    if name == "process":
        return ProcessPoolTaskRunner(max_workers=workers())
    if name == "thread":
        return ThreadPoolTaskRunner(max_workers=1)  # clients share a process's environment: one at a time
    if name not in ("dask", "ray"):
        raise SetupError(f"CATCHMENT_TASK_RUNNER is {name!r}; it must be process, thread, dask or ray")
    import importlib

    try:
        module = importlib.import_module(f"prefect_{name}")
    except ImportError:
        raise SetupError(f"CATCHMENT_TASK_RUNNER is {name!r}; install prefect-{name} for it") from None
    runner: TaskRunner[Any] = getattr(module, f"{name.capitalize()}TaskRunner")()
    return runner


def workers() -> int:
    """How many chunks run at a time: CATCHMENT_SIMULATION_WORKERS, else one for each core."""
    return int(os.environ.get("CATCHMENT_SIMULATION_WORKERS") or os.cpu_count() or 1)


@flow(name="simulate", flow_run_name="{job_id} simulated", task_runner=task_runner(), persist_result=False)
async def simulate(
    job_id: JobId,
    clients: Clients,
    namespace: Namespace = "default",
    data: Annotated[
        dict[str, str],
        Field(description="Data set name -> pattern of absolute paths, dealt to the clients in turn."),
    ] = {},  # noqa: B006 - Prefect shows it in its form, and nobody changes it
) -> Any:
    """Run what is left of a job with simulated clients; the final weights' digest.

    Rounds, strategies, privacy and commits are the job's own. Clients run in chunks, each a task.
    """
    store = process_store()
    await asyncio.to_thread(check_simulated, store, namespace, job_id, data)
    band = await asyncio.to_thread(fleet.muster, store, namespace, job_id, clients)
    try:
        with fleet.kept_alive(store, band):
            return await _driven(band, job_id, namespace, data)
    finally:
        await asyncio.to_thread(fleet.disband, store, band)


async def _driven(band: Fleet, job_id: str, namespace: str, data: dict[str, str]) -> Any:
    """The job's flow with the fleet beside it; the end of either ends both."""
    serving = asyncio.create_task(_serve(band, data))
    driving = asyncio.create_task(federate(job_id, namespace, return_state=True))
    try:
        await asyncio.wait({serving, driving}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done() and not driving.done():
            serving.result()
        return await driving
    finally:
        for running in (serving, driving):
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


async def _serve(band: Fleet, data: dict[str, str]) -> None:
    """Hand the fleet's works out in chunks, as they come, until this is cancelled."""
    store, log = process_store(), get_run_logger()
    running: dict[PrefectFuture[Any], list[str]] = {}
    ended: queue.SimpleQueue[PrefectFuture[Any]] = queue.SimpleQueue()
    while True:
        ticket = store.db.signals.ticket(*band.topics)
        while not ended.empty():
            future = ended.get()
            works = running.pop(future)
            # Its state reaches the server a moment after its end.
            done = await asyncio.to_thread(future.result, timeout=STATE_WAIT_S, raise_on_failure=False)
            if isinstance(done, BaseException):
                log.warning("a chunk of %d works failed: %s", len(works), done)
                await asyncio.to_thread(fleet.give_up, store, band, works, str(done) or type(done).__name__)
        busy = {work for works in running.values() for work in works}
        due = await asyncio.to_thread(fleet.take, store, band, busy)
        for chunk in _chunks(due):
            future = simulate_clients.submit(f"{len(chunk)} clients", band.uid, chunk, dict(data))
            running[future] = chunk
            future.add_done_callback(ended.put)
        await store.db.signals.wait_async(ticket, LOOK_AGAIN_S)


def _chunks(works: list[str]) -> list[list[str]]:
    """Parts of about equal size, in order."""
    number = min(len(works), workers() * CHUNKS_PER_WORKER)
    return [
        works[index * len(works) // number : (index + 1) * len(works) // number] for index in range(number)
    ]
