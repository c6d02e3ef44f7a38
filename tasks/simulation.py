"""The task of a simulated job: a chunk of clients, in a process of the task runner's."""

from __future__ import annotations

import functools

from prefect import task

from catchment.simulation.chunk import Worker
from tasks.rounds import RETRY
from tasks.store import process_store


@functools.cache
def process_worker() -> Worker:
    """What this process keeps from one chunk to the next."""
    return Worker(process_store())


@task(name="simulate clients", task_run_name="simulate {label}", **RETRY)
def simulate_clients(label: str, uid: str, works: list[str], data: dict[str, str]) -> int:
    """Do the works of a chunk of clients; how many results counted.

    Args:
        label: for people: which clients.
        uid: of the job.
        works: ids of the works.
        data: data set name -> shell pattern of its parts.
    """
    return process_worker().run(uid, works, data)
