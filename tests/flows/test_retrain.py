"""The flows `retrain` and `maintain` in this process, against a real Prefect server: how they end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import State

from catchment.errors import InvalidField, RetrainingFailed
from catchment.jobs import lifecycle
from catchment.maintenance.plan import MaintainPlan
from catchment.retraining import naming, stopping
from catchment.retraining.plan import RetrainPlan, parse
from catchment.store import Store
from catchment.store.blobs import put_bytes
from flows.maintain import maintain
from flows.retrain import retrain
from tests.retraining_hands import PLAN, Hands, push_graph
from tests.thread_sites import job


@pytest.fixture
def hands(flow_store: Store, make_site: Callable[..., Any], tmp_path: Path) -> Iterator[Hands]:
    make_site("a")
    make_site("b")
    push_graph(flow_store, tmp_path)
    lifecycle.create_job(flow_store, "default", job(id="template"))
    working = Hands(flow_store)
    yield working
    working.close()


def run(**changes: Any) -> State[Any]:
    return asyncio.run(retrain(parse({**PLAN, **changes}, "default"), return_state=True))


def artifact(key: str) -> Any:
    with get_client(sync_client=True) as client:
        (found,) = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return found


def test_what_is_better_is_rolled_out_and_what_is_not_is_kept(hands):
    state = run()
    assert state.name == "Completed"
    assert state.message.startswith(
        "rolled out default/net:v1-onnx to net: accuracy 0.03; nothing serves yet"
    )
    state = run(gate={"margin": 0.05})
    assert (state.name, state.message) == ("Completed", "kept: accuracy 0.06 < 0.03 + 0.05")
    shown = artifact(f"{naming.child(str(state.state_details.flow_run_id))}-gate-default")
    assert shown.description == state.message
    assert '"accuracy": "0.03"' in shown.data
    state = run(serving=None, convert=None)
    assert state.message == "registered default/net:v3"


def test_a_stop_of_the_child_ends_it_as_cancelled_and_a_failure_as_failed(flow_store, hands):
    hands.over.set()  # nobody works off the job
    hands.thread.join(30)
    stopped = asyncio.run(_stopped_meanwhile(flow_store))
    assert stopped.name == "Cancelled"
    assert "stopped: job retrain-" in stopped.message
    (child,) = [row for row in lifecycle.list_jobs(flow_store, "default") if row["id"] != "template"]
    assert child["status"]["state"] in ("STOPPING", "STOPPED")
    before = lifecycle.list_jobs(flow_store, "default")
    unchecked = RetrainPlan.model_validate({**PLAN, "convert": {"options": {"operation": "shrink"}}})
    with pytest.raises(InvalidField, match=r"convert\.options\.operation: must be one of slim"):
        asyncio.run(retrain(unchecked))
    assert lifecycle.list_jobs(flow_store, "default") == before
    late = {"template": "template", "wait_s": 0.2}
    with pytest.raises(RetrainingFailed, match=r"took longer than 0\.2 s: STARTING"):
        asyncio.run(retrain(parse({**PLAN, "job": late}, "default")))


async def _stopped_meanwhile(store: Store) -> State[Any]:
    running = asyncio.create_task(retrain(parse(PLAN, "default"), return_state=True))
    deadline = time.monotonic() + 60
    while not running.done():
        assert time.monotonic() < deadline
        for row in await asyncio.to_thread(lifecycle.list_jobs, store, "default"):
            if row["id"] != "template" and row["status"]["state"] == "STARTING":
                await asyncio.to_thread(_stop, store, row["id"])
        await asyncio.wait([running], timeout=0.1)
    return await running


def _stop(store: Store, name: str) -> None:
    """As a cancelled run does it: by the run's id, of which the names have the end."""
    stopping.stop_children(store, f"00000000-0000-4000-8000-0000{name.removeprefix('retrain-')}")


def test_maintenance_reports_and_fails_where_a_blob_is_broken(flow_store):
    old = put_bytes(flow_store.blobs, b"old")
    os.utime(flow_store.blobs.local_path(old), (0, 0))
    state = asyncio.run(maintain(MaintainPlan(parts=1), return_state=True))
    assert state.name == "Completed"
    assert state.message == "1 blobs of 3 bytes removed, 0 hashed again"
    assert not flow_store.blobs.exists(old)
    broken = put_bytes(flow_store.blobs, b"whole")
    path = flow_store.blobs.local_path(broken)
    path.chmod(0o644)
    path.write_bytes(b"broken")
    state = asyncio.run(maintain(MaintainPlan(parts=1), return_state=True))
    assert state.name == "Failed"
    assert f"1 broken blobs, which were left as they are: {broken} of nothing" in state.message
    assert path.read_bytes() == b"broken"
