"""Several APIs, and Prefect in parts, on PostgreSQL, Redis and S3, with the settings of deployments/."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from catchment.models.tensors import read_tensors
from catchment.stack.postgres import EmbeddedPostgres
from tests.conftest import wait_until
from tests.e2e.conftest import ENDED, small_job
from tests.scaled_system import Scaled, scaled_system

pytestmark = pytest.mark.needs("redis-server")
JOBS = "/api/v1/namespaces/default/jobs"
MODELS = "/api/v1/namespaces/default/models"
CONTENT = "/api/v1/models/content"
ROUNDS = 4


@pytest.fixture(scope="module")
def scaled(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scaled]:
    """The running system; tests here are in the order of its life."""
    with scaled_system(tmp_path_factory.mktemp("scaled"), postgres) as system:
        yield system


def job(scaled: Scaled) -> dict[str, Any]:
    """The job through the balancer, which may still deal out a connection that dies with its server."""
    for _ in range(5):
        try:
            answer = scaled.http.get(f"{JOBS}/scaled")
        except httpx.TransportError:
            continue
        assert answer.status_code == 200, answer.text
        return dict(answer.json())
    raise AssertionError("no API answers")


def committed(scaled: Scaled) -> int:
    """How many rounds are committed."""
    rounds = scaled.http.get(f"{JOBS}/scaled/rounds").json()["rounds"]
    return sum(one["state"] == "committed" for one in rounds)


def test_an_upload_goes_on_at_the_other_api(scaled: Scaled) -> None:
    """They share the folder where uploads arrive: a balancer may send each part elsewhere."""
    data, half = bytes(range(256)) * 4000, 512_000
    made = scaled.http.post(
        MODELS, json={"name": "net", "version": "v1", "runtime": "pytorch", "file_name": "n.pt"}
    )
    assert made.status_code == 201, made.text
    digest = {"digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "model_id": made.json()["id"]}
    answers = []
    for (start, end), port in zip(((0, half), (half, len(data))), scaled.apis.values(), strict=True):
        answers.append(
            scaled.http.put(
                f"http://127.0.0.1:{port}{CONTENT}",
                params=digest,
                content=data[start:end],
                headers={"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"},
            )
        )
    assert [answer.status_code for answer in answers] == [202, 200], answers[-1].text
    assert scaled.http.get(CONTENT, params={"model_id": made.json()["id"]}).content == data


def test_a_job_goes_on_when_one_of_two_apis_is_killed(scaled: Scaled) -> None:
    body = small_job(
        id="scaled",
        clients="site-a,site-b",
        parameters={"--mode": "slow"},
        hyper_parameters={"max_round_num": ROUNDS, "save_interval": ROUNDS},
    )
    created = scaled.http.post(f"{JOBS}?start=true", json=body)
    assert created.status_code == 201, created.text
    wait_until(lambda: committed(scaled) >= 1, timeout_s=60, what="the first round")
    shown = job(scaled)
    assert shown["status"]["state"] == "RUNNING"
    assert set(scaled.balancer.taken) == set(scaled.apis.values()), "both APIs were at work"
    before = committed(scaled)
    assert before < ROUNDS, "the job was over before anything could be killed"

    scaled.processes.kill("api-1")

    def ended() -> bool:
        shown.update(job(scaled))
        return shown["status"]["state"] in ENDED

    wait_until(ended, timeout_s=60, what=f"the end of the job, which is {shown['status']}")
    assert shown["status"] == {"state": "FINISHED", "reason": "", "progress": 100}
    (checkpoint,) = shown["checkpoints"].values()
    with scaled.store.files.fetched("default", checkpoint["path"]) as path:
        assert read_tensors(path)["weight"].tolist() == [[float(ROUNDS)] * 2]


def test_task_runs_come_to_the_database_through_redis_and_the_services(scaled: Scaled) -> None:
    """The web server takes events and writes none of them: the services do, which hear of them by Redis."""
    flow_run = job(scaled)["flow_run_id"]

    def completed() -> set[str]:
        children = scaled.prefect.post(
            "/flow_runs/filter", json={"flow_runs": {"parent_flow_run_id": {"any_": [flow_run]}}}
        ).json()
        found = scaled.prefect.post(
            "/task_runs/filter", json={"flow_runs": {"id": {"any_": [child["id"] for child in children]}}}
        ).json()
        return {run["name"] for run in found if run["state"]["type"] == "COMPLETED"}

    wanted = {f"aggregate and commit round {number}" for number in range(1, ROUNDS + 1)}
    wait_until(lambda: completed() >= wanted, timeout_s=30, what="the task runs of all rounds")
    run = scaled.prefect.get(f"/flow_runs/{flow_run}").json()
    assert run["state"]["type"] == "COMPLETED"
