"""Flow `simulate` in a process of its own, against a real Prefect server: chunks are task runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterName

from catchment.exchange.sites import list_sites
from catchment.jobs import lifecycle
from catchment.store import Store
from tests.library.simulation.conftest import job_folder  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[2]


def simulated(folder: Path, clients: int) -> subprocess.CompletedProcess[str]:
    """`python -m flows.simulate_job`; the environment names the store and the server."""
    command = [sys.executable, "-m", "flows.simulate_job", str(folder / "job.json"), "--root", str(folder)]
    return subprocess.run(
        [*command, "--clients", str(clients)],
        cwd=ROOT,
        env={**os.environ, "CATCHMENT_SIMULATION_WORKERS": "2", "CATCHMENT_SITE_LEASE_S": "30"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_simulated_job_finishes_with_the_same_weights_each_time(flow_store: Store, job_folder):  # noqa: F811
    folder = job_folder()
    first = simulated(folder, 20)
    assert first.returncode == 0, first.stderr
    told = [json.loads(line) for line in first.stdout.splitlines()]
    assert [line.get("round") for line in told] == [1, 2, None]
    assert told[1]["metrics"]["accuracy"] == 0.5
    shown = lifecycle.get_job(flow_store, "default", "simulated")
    assert shown["status"]["state"] == "FINISHED"
    assert list_sites(flow_store) == []
    with get_client(sync_client=True) as client:
        named = TaskRunFilter(name=TaskRunFilterName(like_="simulate"))
        chunks = client.read_task_runs(task_run_filter=named, limit=100)
    assert len(chunks) >= 3 * 4  # two rounds and an evaluation, two chunks for each of two workers
    again = simulated(folder, 20)  # a finished job begins a new run
    assert again.returncode == 0, again.stderr
    digests = [
        (flow_store.files.path("default", f"out/simulated_V{run}/metrics.json")).read_text() for run in (1, 2)
    ]
    assert json.loads(digests[0])["weights"] == json.loads(digests[1])["weights"]


def test_too_few_clients_fail_with_a_reason(flow_store: Store, job_folder, monkeypatch):  # noqa: F811
    ended = simulated(job_folder(id="small"), 3)
    assert ended.returncode == 1
    assert "waits for 20 sites that fit, 3 there" in ended.stderr
    assert lifecycle.get_job(flow_store, "default", "small")["status"]["state"] == "FAILED"


@pytest.mark.parametrize(("changes", "told"), [({"scripts": None, "task_entry": "train"}, "task_entry")])
def test_what_cannot_be_simulated_is_refused_before_anything_begins(
    flow_store: Store,
    job_folder,  # noqa: F811
    changes: dict[str, object],
    told: str,
) -> None:
    folder = job_folder(id="refused", **changes)
    body = {key: value for key, value in json.loads((folder / "job.json").read_text()).items() if value}
    (folder / "job.json").write_text(json.dumps(body))
    ended = simulated(folder, 3)
    assert ended.returncode == 1
    assert told in ended.stderr
    assert lifecycle.get_job(flow_store, "default", "refused")["status"]["state"] == "QUEUED"
