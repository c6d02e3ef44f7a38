"""Tasks against a storage that hangs without an error: a deadline, one more try, and a reason."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from catchment.errors import StepTimedOut
from catchment.jobs import lifecycle
from flows.federate import federate
from tests.conftest import wait_until
from tests.tasks.conftest import STEP_TIMEOUT_S
from tests.thread_sites import job


def reason(store) -> str:
    return str(lifecycle.get_job(store, "default", "j")["status"]["reason"])


@pytest.fixture
def hanging(store, s3, make_site):
    """A job whose sites are there and whose storage hangs."""
    make_site("a")
    make_site("b")
    lifecycle.create_job(store, "default", job(hyper_parameters={"max_round_num": 2}))
    lifecycle.request_start(store, "default", "j")
    s3.hang()
    return store


def test_a_step_whose_storage_wakes_up_is_done_by_its_second_try(hanging, s3):
    told = []

    def wake() -> None:
        told.append(wait_until(lambda: reason(hanging), timeout_s=30, what="the reason of the delay"))
        s3.wake()

    waker = threading.Thread(target=wake)
    waker.start()
    assert asyncio.run(federate("j")).startswith("sha256:")
    waker.join(10)
    assert f"step 'prepare run' was not done after {STEP_TIMEOUT_S:g} s" in told[0]
    assert lifecycle.get_job(hanging, "default", "j")["status"] == {
        "state": "FINISHED",
        "reason": "",
        "progress": 100,
    }


def test_a_storage_that_goes_on_hanging_fails_the_job_with_the_steps_name(hanging, s3):
    begun = time.monotonic()
    with pytest.raises(StepTimedOut, match="prepare run"):
        asyncio.run(federate("j"))
    # Two tries, and nobody waits for the threads that hang: S3's own time limits are above a minute.
    assert time.monotonic() - begun < 2 * STEP_TIMEOUT_S + 20
    shown = lifecycle.get_job(hanging, "default", "j")["status"]
    assert shown["state"] == "FAILED"
    assert "step 'prepare run'" in shown["reason"]
    assert "CATCHMENT_STEP_TIMEOUT_S" in shown["reason"]
    s3.wake()
    assert asyncio.run(federate("j")).startswith("sha256:")
    assert lifecycle.get_job(hanging, "default", "j")["status"]["state"] == "FINISHED"
