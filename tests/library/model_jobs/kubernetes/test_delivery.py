"""The API's face for pods: a token for one step, and nothing taken that is no outcome of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from catchment import access
from catchment.model_jobs import manager, steps
from catchment.model_jobs.claim import ModelJobClaim, claim
from catchment.model_jobs.kubernetes import delivery
from catchment.settings import Settings
from catchment.store import migrate
from catchment.store.schema import tokens
from tests.api.serving import InProcess, RecordingLauncher, in_process
from tests.library.model_jobs.conftest import ANNA, small_onnx, upload

SPEC = {
    "model": "default/net:v1",
    "desiredTag": "default/net:v2",
    "conversion": {"mmdnn": {"from": "ONNX", "to": "ONNX"}},
}


@pytest.fixture
def app(tmp_path: Path, cache: Path, database_url: str) -> Iterator[InProcess]:
    settings = Settings(
        home=tmp_path / "home",
        cache_dir=cache,
        database_url=database_url,
        supervise_s=3600,
        model_job_runner="kubernetes",
        model_job_image="x-{backend}",
        model_job_api_url="http://api",
    )
    migrate(settings)
    with in_process(settings, RecordingLauncher()) as running:
        upload(running.store, "v1", small_onnx(tmp_path / "net.onnx"))
        manager.create(running.store, "default", {"metadata": {"name": "job"}, "spec": SPEC}, ANNA)
        yield running


@pytest.fixture
def held(app: InProcess) -> ModelJobClaim:
    found = claim(app.store, "default", "job", flow_run_id="run", attempt=1)
    steps.pull(app.store, found)
    return found


class Pod:
    """What a pod asks, with its token."""

    def __init__(self, app: InProcess, held: ModelJobClaim, step: str = "convert") -> None:
        self._app, self._path = app, f"/api/v1/modeljob-work/{held.uid}/{step}"
        self.token = access.create_worker_token(app.store, held.uid, step)

    def __call__(self, method: str, path: str = "", **request: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        return self._app(method, self._path + path, headers=headers, **request)

    def put(self, path: str, data: bytes, digest: str = "") -> Any:
        """Bring a file."""
        digest = digest or f"sha256:{hashlib.sha256(data).hexdigest()}"
        return self("PUT", "/files", params={"path": path, "digest": digest}, content=data)


FOUND = {
    "backend": "base",
    "format": "ONNX",
    "report": {"passed": True, "problems": [], "outputs": [], "lossy": False, "source_format": "ONNX"},
    "signature": {"inputs": [], "outputs": []},
    "passedOver": {},
    "notIsolated": {},
    "log": "",
}


def test_a_pod_gets_its_task_and_files_and_brings_what_it_made(app: InProcess, held: ModelJobClaim) -> None:
    pod = Pod(app, held)
    told = pod("GET").json()
    assert (told["task"]["kind"], told["task"]["format"], told["task"]["target"]) == (
        "convert",
        "ONNX",
        "ONNX",
    )
    (file,) = told["files"]
    data = pod("GET", "/files/0").content
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == file["digest"]
    assert pod("GET", "/files/1").status_code == 404
    assert pod.put("sub/model.onnx", data).status_code == 204
    assert pod.put("sub/model.onnx", data).status_code == 204  # its answer had not arrived
    assert pod("POST", "/outcome", json={"found": FOUND}).status_code == 204
    assert delivery.outcome(app.store, held, "convert") == {"found": FOUND}
    shown = manager.get(app.store, "default", "job")
    assert set(shown["status"]["steps"]) == {"pull"}


@pytest.mark.parametrize("path", ["../model.onnx", "/model.onnx", "a/../../b", "./model.onnx", "a//b", ""])
def test_paths_that_lead_elsewhere_are_refused(app: InProcess, held: ModelJobClaim, path: str) -> None:
    assert Pod(app, held).put(path, b"data").status_code == 400


def test_bytes_that_are_not_what_was_announced_are_refused(app: InProcess, held: ModelJobClaim) -> None:
    pod = Pod(app, held)
    assert pod.put("model.onnx", b"data", "sha256:" + "0" * 64).status_code == 422
    assert pod("PUT", "/files", params={"path": "model.onnx"}, content=b"data").status_code == 400
    assert pod("POST", "/outcome", json={"found": FOUND}).status_code == 400


@pytest.mark.parametrize(
    "outcome",
    [
        [],
        {},
        {"found": []},
        {"found": {}},
        {"found": FOUND, "problem": {"message": "both"}},
        {"problem": {}},
        {"problem": "text"},
        {"found": {**FOUND, "report": {**FOUND["report"], "passed": False}}},
        {"found": {**FOUND, "report": {**FOUND["report"], "problems": ["it differs"]}}},
        {"found": {**FOUND, "report": None}},
    ],
)
def test_what_is_no_outcome_is_refused(app: InProcess, held: ModelJobClaim, outcome: Any) -> None:
    pod = Pod(app, held)
    assert pod.put("model.onnx", b"data").status_code == 204
    assert pod("POST", "/outcome", json=outcome).status_code == 400
    assert delivery.outcome(app.store, held, "convert") is None


def test_a_token_is_good_for_its_step_only_and_not_for_the_rest_of_the_api(
    app: InProcess, held: ModelJobClaim
) -> None:
    pod, other = Pod(app, held), Pod(app, held, "verify")
    pod.token, other.token = other.token, pod.token
    assert pod("GET").status_code == 403
    assert other("GET").status_code == 403
    pod.token = "catchment_0000000000000000_none"
    assert pod("GET").status_code == 401
    assert app("GET", f"/api/v1/modeljob-work/{held.uid}/convert").status_code == 401
    admin = access.create_token(app.store, "admin")
    headers = {"Authorization": f"Bearer {admin}"}
    assert app("GET", f"/api/v1/modeljob-work/{held.uid}/convert", headers=headers).status_code == 403


def test_a_pods_token_opens_nothing_else(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", auth="tokens", supervise_s=3600)
    migrate(settings)
    with in_process(settings, RecordingLauncher()) as app:
        token = access.create_worker_token(app.store, "0" * 32, "convert")
        headers = {"Authorization": f"Bearer {token}"}
        for path in ("/api/v1alpha1/namespaces/default/modeljobs", "/api/v1/namespaces/default/jobs", "/v2/"):
            assert app("GET", path, headers=headers).status_code in (401, 403), path


def test_a_token_ends_with_its_work(app: InProcess, held: ModelJobClaim) -> None:
    first = Pod(app, held)
    second = Pod(app, held)
    assert first("GET").status_code == 401
    assert second("GET").status_code == 200
    third = Pod(app, held)
    long_ago = (
        update(tokens).where(tokens.c.role == "worker").values(created_at=tokens.c.created_at - 100_000)
    )
    app.store.db.write(lambda tx: tx.execute(long_ago))
    assert third("GET").status_code == 401
    assert [each for each in access.list_tokens(app.store) if each["role"] == "worker"] == []
    access.drop_worker_tokens(app.store, held.uid)


def test_nothing_is_taken_once_nobody_waits(app: InProcess, held: ModelJobClaim) -> None:
    pod = Pod(app, held)
    manager.request_stop_of_run(app.store, "run")
    assert pod("GET").status_code == 409
    assert pod.put("model.onnx", b"data").status_code == 409
    assert pod("POST", "/outcome", json={"found": FOUND}).status_code == 409
