"""The documented operations: exact paths, codes and bodies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert

from api import schemas
from catchment.errors import SetupError, Unreachable
from catchment.store.schema import jobs, rounds, works
from tests.api.serving import InProcess, RecordingLauncher
from tests.conftest import wait_until

JOBS = "/api/v1/namespaces/default/jobs"
SUCCESSFUL = {"state": "SUCCESSFUL"}
MakeJob = Callable[..., dict[str, Any]]


def state(api: InProcess, job_id: str = "digits") -> str:
    return str(api("GET", f"{JOBS}/{job_id}").json()["status"]["state"])


def reason(answer: Any) -> str:
    """The reason of a documented failure, whose shape is checked."""
    body = answer.json()
    assert set(body) == {"state", "reason"}
    assert body["state"] == "FAILED"
    return str(body["reason"])


def test_a_job_lives_from_creation_to_deletion(
    api: InProcess, launcher: RecordingLauncher, job: MakeJob
) -> None:
    created = api("POST", JOBS, json=job())
    assert (created.status_code, created.json()) == (201, SUCCESSFUL)
    assert state(api) == "QUEUED"
    updated = api("PUT", f"{JOBS}/digits", json=job(description="ten digits"))
    assert (updated.status_code, updated.json()) == (200, SUCCESSFUL)
    started = api("PUT", f"{JOBS}/digits:start")
    assert (started.status_code, started.json()) == (200, SUCCESSFUL)
    shown = api("GET", f"{JOBS}/digits").json()
    assert shown["status"]["state"] == "STARTING"
    assert shown["description"] == "ten digits"
    assert shown["flow_run_id"] == f"run-of-{launcher.launched[0].key}"
    stopped = api("PUT", f"{JOBS}/digits:stop")
    assert (stopped.status_code, stopped.json()) == (200, SUCCESSFUL)
    wait_until(lambda: state(api) == "STOPPED", timeout_s=10, what="the woken supervisor")
    assert launcher.cancelled == [shown["flow_run_id"]]
    deleted = api("DELETE", f"{JOBS}/digits")
    assert (deleted.status_code, deleted.json()) == (200, SUCCESSFUL)
    wait_until(
        lambda: api("GET", f"{JOBS}/digits").status_code == 404, timeout_s=10, what="the job to be gone"
    )


def test_what_get_shows_is_what_the_openapi_document_says(api: InProcess, job: MakeJob) -> None:
    api("POST", JOBS, json=job(clients="10.0.0.1:80", parameters={"--lr": 0.1, "-v": None}, seed=3))
    shown = api("GET", f"{JOBS}/digits").json()
    assert schemas.Job.model_validate_json(json.dumps(shown)).status is not None
    assert shown["hyper_parameters"]["max_round_num"] == 10
    assert shown["parameters"] == {"--lr": 0.1, "-v": None}
    schemas.JobList.model_validate_json(api("GET", JOBS).content)
    assert api("PUT", f"{JOBS}/digits", json=shown).status_code == 200, "GET's body can be sent back"


def test_create_can_start_at_once(api: InProcess, launcher: RecordingLauncher, job: MakeJob) -> None:
    assert api("POST", f"{JOBS}?start=true", json=job()).status_code == 201
    assert state(api) == "STARTING"
    assert [start.job_id for start in launcher.launched] == ["digits"]


def test_starting_twice_makes_one_run(api: InProcess, launcher: RecordingLauncher, job: MakeJob) -> None:
    api("POST", JOBS, json=job())
    for _ in range(2):
        assert api("PUT", f"{JOBS}/digits:start").status_code == 200
    assert len({start.key for start in launcher.launched}) == 1


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"not json"])
def test_bodies_of_start_and_stop_are_ignored(api: InProcess, job: MakeJob, body: bytes) -> None:
    api("POST", JOBS, json=job())
    for operation in ("start", "stop"):
        assert api("PUT", f"{JOBS}/digits:{operation}", content=body).status_code == 200


def test_a_start_while_prefect_is_away_is_taken_and_says_so(
    api: InProcess, launcher: RecordingLauncher, job: MakeJob
) -> None:
    launcher.failure = Unreachable("Prefect does not answer at http://127.0.0.1:9/api")
    api("POST", JOBS, json=job())
    assert api("PUT", f"{JOBS}/digits:start").status_code == 200
    assert "Prefect does not answer" in api("GET", f"{JOBS}/digits").json()["status"]["reason"]
    launcher.failure = None
    api.context.supervisor.wake()
    wait_until(
        lambda: api("GET", f"{JOBS}/digits").json()["flow_run_id"],
        timeout_s=10,
        what="the supervisor's launch",
    )


def test_a_start_without_the_deployment_fails_the_job_with_the_remedy(
    api: InProcess, launcher: RecordingLauncher, job: MakeJob
) -> None:
    launcher.failure = SetupError("register it with 'prefect deploy --all'")
    api("POST", f"{JOBS}?start=true", json=job())
    status = api("GET", f"{JOBS}/digits").json()["status"]
    assert status["state"] == "FAILED"
    assert "prefect deploy --all" in status["reason"]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("PUT", "/digits", 403),
        ("PUT", "/digits:start", 403),
        ("PUT", "/digits:stop", 403),
        ("GET", "/digits", 404),
        ("DELETE", "/digits", 200),
    ],
)
@pytest.mark.parametrize("namespace", ["default", "nowhere"])
def test_codes_for_a_job_that_is_not_there(
    api: InProcess, job: MakeJob, method: str, path: str, code: int, namespace: str
) -> None:
    body = {"json": job()} if method == "PUT" else {}
    answer = api(method, f"/api/v1/namespaces/{namespace}/jobs{path}", **body)
    assert answer.status_code == code
    if code == 200:
        assert answer.json() == SUCCESSFUL
    else:
        assert "does not exist" in reason(answer)


def test_an_unknown_namespace_refuses_creation_and_lists_nothing(api: InProcess, job: MakeJob) -> None:
    created = api("POST", "/api/v1/namespaces/nowhere/jobs", json=job())
    assert created.status_code == 403
    assert "namespace 'nowhere'" in reason(created)
    listed = api("GET", "/api/v1/namespaces/nowhere/jobs")
    assert (listed.status_code, listed.json()) == (200, {"jobs": []})


def test_a_second_job_of_the_same_id_is_refused(api: InProcess, job: MakeJob) -> None:
    api("POST", JOBS, json=job())
    again = api("POST", JOBS, json=job())
    assert again.status_code == 403
    assert "already exists" in reason(again)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"runtime": "mxnet"}, "runtime"),
        ({"port": "8080"}, "port"),
        ({"hyper_parameters": {"max_round_num": 0}}, "hyper_parameters.max_round_num"),
        ({"colour": "red"}, "colour"),
        ({"task_entry": None}, "task_entry"),
        ({"model_path": "../outside.safetensors"}, "model_path"),
        ({"register": {"name": "Digits"}}, "register.name: "),
    ],
)
def test_a_bad_field_is_403_and_named(
    api: InProcess, job: MakeJob, changes: dict[str, Any], named: str
) -> None:
    api("POST", JOBS, json=job())
    body = {key: value for key, value in job(**changes).items() if value is not None}
    for method, path in (("POST", JOBS), ("PUT", f"{JOBS}/digits")):
        answer = api(method, path, json=body)
        assert answer.status_code == 403
        assert named in reason(answer)


def test_update_is_refused_while_the_job_runs(api: InProcess, job: MakeJob) -> None:
    api("POST", f"{JOBS}?start=true", json=job())
    answer = api("PUT", f"{JOBS}/digits", json=job())
    assert answer.status_code == 403
    assert "STARTING" in reason(answer)


def test_ten_thousand_jobs_are_listed_paged_and_filtered(api: InProcess, job: MakeJob) -> None:
    api("POST", JOBS, json=job())
    spec = api.store.db.read(lambda tx: tx.execute(jobs.select()).one().spec)
    rows = [
        {
            "uid": f"{number:032x}",
            "namespace": "default",
            "id": f"job-{number}",
            "spec": {**spec, "id": f"job-{number}"},
            "state": "FINISHED" if number % 100 else "FAILED",
            "created_at": float(number),
            "state_since": float(number),
            "run_folders": [],
        }
        for number in range(10_000)
    ]
    api.store.db.write(lambda tx: tx.execute(insert(jobs), rows))
    began = time.monotonic()
    everything = api("GET", JOBS)
    assert len(everything.json()["jobs"]) == 10_001
    assert time.monotonic() - began < 30
    page = api("GET", f"{JOBS}?offset=10&limit=5").json()["jobs"]
    assert [each["id"] for each in page] == [f"job-{number}" for number in range(10, 15)]
    assert len(api("GET", f"{JOBS}?state=FAILED").json()["jobs"]) == 100


@pytest.mark.parametrize(
    "query", ["offset=-1", "offset=x", "limit=-1", "limit=1.5", "state=DONE", "state=finished"]
)
def test_a_bad_query_of_the_list_is_named(api: InProcess, query: str) -> None:
    answer = api("GET", f"{JOBS}?{query}")
    assert answer.status_code == 403
    assert reason(answer).startswith(query.partition("=")[0])


def test_rounds_are_reported_as_described(api: InProcess, job: MakeJob) -> None:
    api("POST", JOBS, json=job())
    uid = api.store.db.read(lambda tx: tx.execute(jobs.select()).one().uid)
    of_round = {"job_uid": uid, "run": 0, "attempt": 0}
    a_round = {
        "number": 1,
        "state": "committed",
        "cohort": ["site-1"],
        "weights": f"sha256:{'0' * 64}",
        "selected_at": 10.0,
        "published_at": 10.5,
        "collected_at": 12.0,
        "committed_at": 12.25,
        "metrics": {"accuracy": 0.5},
    }
    work = {
        "id": "w" * 32,
        "round": 1,
        "kind": "train",
        "site": "site-1",
        "state": "admitted",
        "order": {},
        "deadline": 99.0,
        "created_at": 10.0,
    }
    api.store.db.write(lambda tx: tx.execute(insert(rounds).values(**of_round, **a_round)))
    api.store.db.write(lambda tx: tx.execute(insert(works).values(**of_round, **work)))
    answer = api("GET", f"{JOBS}/digits/rounds")
    assert answer.status_code == 200
    (shown,) = schemas.RoundList.model_validate_json(answer.content).rounds
    assert (shown.round, shown.cohort, shown.sites[0].site) == (1, ["site-1"], "site-1")
    assert api("GET", f"{JOBS}/digits/rounds?run=7").json() == {"rounds": []}
    missing = api("GET", f"{JOBS}/nothing/rounds")
    assert missing.status_code == 404
    assert missing.headers["content-type"] == "application/problem+json"
