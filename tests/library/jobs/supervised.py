"""Jobs as the supervisor meets them."""

from __future__ import annotations

from typing import Any

from catchment.jobs import lifecycle, supervise
from catchment.jobs.starting import Start
from catchment.jobs.states import JobState
from catchment.store import Store
from tests.library.jobs.doubles import make, row
from tests.library.store.fresh import Clock

S = JobState
LOOK = supervise.LOOK_AT_RUN_S + 0.1


def started(store: Store, job_id: str = "j") -> Start:
    make(store, job_id=job_id)
    start = lifecycle.request_start(store, "default", job_id)
    assert start is not None
    return start


def running_and_lost(store: Store, clock: Clock, **values: Any) -> Any:
    """A RUNNING job whose process has not renewed its lease."""
    make(store, S.RUNNING, **values)
    clock.forward(store.settings.job_lease_s + 0.1)
    return row(store)


def status(store: Store) -> tuple[str, str]:
    found = row(store)
    return found.state, found.reason
