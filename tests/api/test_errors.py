"""Every error has the shape of its face, and nothing of FastAPI's own is left."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest

from api.errors import STATUS, status_of
from catchment import errors
from catchment.jobs import lifecycle, namespaces
from tests.api.serving import InProcess

JOBS = "/api/v1/namespaces/default/jobs"


def kinds(root: type[errors.CatchmentError]) -> list[type[errors.CatchmentError]]:
    return [root, *(kind for each in root.__subclasses__() for kind in kinds(each))]


@pytest.mark.parametrize("face", list(STATUS))
def test_every_error_has_a_status_on_every_face(face: Any) -> None:
    for kind in kinds(errors.CatchmentError):
        error = kind.__new__(kind)
        assert HTTPStatus(status_of(error, STATUS[face])) >= 400


@pytest.mark.parametrize(
    ("kind", "read", "change", "own"),
    [
        (errors.NotFound, 404, 403, 404),
        (errors.InvalidField, 403, 403, 400),
        (errors.WrongState, 403, 403, 409),
        (errors.AlreadyExists, 403, 403, 409),
        (errors.PathRefused, 403, 403, 409),
        (errors.Unauthorized, 401, 401, 401),
        (errors.Forbidden, 403, 403, 403),
        (errors.Unreachable, 500, 500, 503),
        (errors.SetupError, 500, 500, 500),
    ],
)
def test_status_by_face(kind: type[errors.CatchmentError], read: int, change: int, own: int) -> None:
    error = kind.__new__(kind)
    assert [status_of(error, STATUS[face]) for face in ("read", "change", "own")] == [read, change, own]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v2/health", 404),
        ("GET", f"{JOBS}/", 404),
        ("PUT", f"{JOBS}/digits:restart", 404),
        ("POST", f"{JOBS}/digits", 405),
        ("DELETE", f"{JOBS}/digits:stop", 405),
        ("GET", f"{JOBS}/digits:start", 405),
        ("DELETE", JOBS, 405),
        ("POST", "/api/v1/health", 405),
    ],
)
def test_unknown_paths_and_verbs_have_the_documented_shape(
    api: InProcess, method: str, path: str, code: int
) -> None:
    answer = api(method, path)
    assert answer.status_code == code
    assert set(answer.json()) == {"state", "reason"}


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", 404),
        ("GET", "/docs", 404),
        ("GET", "/exchange/v1/sites", 404),
        ("POST", "/readyz", 405),
        ("POST", "/api/v1/namespaces", 405),
        ("GET", "/api/v1/namespaces/nowhere", 404),
        ("DELETE", "/api/v1/namespaces/nowhere", 404),
        ("DELETE", "/api/v1/namespaces/default", 409),
        ("PUT", "/api/v1/namespaces/Not_A_Name", 400),
        ("GET", f"{JOBS}/nothing/rounds", 404),
        ("GET", f"{JOBS}/nothing/rounds?run=x", 400),
    ],
)
def test_catchments_own_errors_are_problem_details(api: InProcess, method: str, path: str, code: int) -> None:
    answer = api(method, path)
    assert answer.status_code == code
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["title"]) == (code, HTTPStatus(code).phrase)
    assert problem["detail"]


def test_a_wrong_verb_hears_the_right_ones(api: InProcess) -> None:
    assert api("POST", f"{JOBS}/digits").headers["allow"] == "GET, PUT, DELETE"


@pytest.mark.parametrize(
    ("failure", "documented", "own"),
    [
        (errors.Unreachable("the database does not answer"), 500, 503),
        (RuntimeError("password=hunter2"), 500, 500),
    ],
)
def test_failures_of_the_server_tell_no_secret(
    api: InProcess,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    documented: int,
    own: int,
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise failure

    for name in ("create_job", "update_job", "get_job", "list_jobs"):
        monkeypatch.setattr(lifecycle, name, fails)
    for name in ("request_start", "request_stop", "request_delete"):
        monkeypatch.setattr(lifecycle, name, fails)
    monkeypatch.setattr(namespaces, "get", fails)
    calls = [
        ("POST", JOBS),
        ("GET", JOBS),
        ("GET", f"{JOBS}/digits"),
        ("PUT", f"{JOBS}/digits"),
        ("DELETE", f"{JOBS}/digits"),
        ("PUT", f"{JOBS}/digits:start"),
        ("PUT", f"{JOBS}/digits:stop"),
    ]
    for method, path in calls:
        answer = api.send_json(method, path, "{}")
        assert (answer.status_code, answer.json()["state"]) == (documented, "FAILED")
        assert "hunter2" not in answer.text
    answer = api("GET", "/api/v1/namespaces/default")
    assert (answer.status_code, answer.headers["content-type"]) == (own, "application/problem+json")
    assert "hunter2" not in answer.text
    if isinstance(failure, RuntimeError):
        assert "hunter2" in caplog.text, "the log has the traceback"
