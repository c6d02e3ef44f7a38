"""The documented operations on models, as a plain HTTP client sees them."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.serving import InProcess
from tests.conftest import wait_until

MODELS = "/api/v1/namespaces/default/models"
ONE = MODELS + "/net"
CONTENT = "/api/v1/models/content"
NET = {"name": "net", "version": "v1", "runtime": "pytorch", "model_path": "initial.safetensors"}


@pytest.fixture
def create(api: InProcess) -> Callable[..., dict[str, Any]]:
    def make(**changes: Any) -> dict[str, Any]:
        body = {key: value for key, value in {**NET, **changes}.items() if value is not None}
        answer = api("POST", MODELS, json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    return make


def by_id(api: InProcess, model_id: str) -> dict[str, Any]:
    answer = api("GET", "/api/v1/models", params={"model_id": model_id})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ready(api: InProcess, model_id: str) -> dict[str, Any]:
    wait_until(lambda: by_id(api, model_id)["state"] == "ready", timeout_s=20, what="a ready model")
    return by_id(api, model_id)


def refused(answer: httpx.Response, status: int, words: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"state", "reason"}
    assert answer.json()["state"] == "FAILED"
    assert words in answer.json()["reason"]


def test_a_model_is_created_copied_and_found_by_all_its_names(
    api: InProcess, create: Callable[..., dict[str, Any]]
) -> None:
    made = create()
    assert (made["state"], made["version_info"]["version"]) == ("unready", "v1")
    found = ready(api, made["id"])
    assert found["progress"] == 100
    for path, params in (
        (MODELS, {}),
        (MODELS, {"offset": "0", "limit": "1"}),
        (ONE, {}),
        (ONE, {"version": "v1"}),
    ):
        answer = api("GET", path, params=params)
        assert (answer.status_code, answer.json()) == (200, {"models": [found]})


def test_the_documented_errors_have_the_documented_codes_and_shapes(
    api: InProcess, create: Callable[..., dict[str, Any]]
) -> None:
    create()
    refused(api("POST", MODELS, json=NET), 400, "already")
    refused(api("POST", MODELS, json={**NET, "name": "Net"}), 400, "name:")
    refused(api("POST", MODELS, json={"version": "v1"}), 400, "name: is required")
    refused(api.send_json("POST", MODELS, "{"), 400, "body")
    refused(api("POST", "/api/v1/namespaces/nowhere/models", json=NET), 404, "nowhere")
    refused(api("GET", "/api/v1/namespaces/nowhere/models"), 404)
    refused(api("GET", MODELS + "/other"), 404)
    refused(api("GET", ONE, params={"version": "v2"}), 404)
    refused(api("GET", "/api/v1/models", params={"model_id": "x"}), 404)
    refused(api("GET", "/api/v1/models"), 400, "model_id")
    refused(api("PUT", ONE, json={"description": "x"}), 400, "version")
    refused(api("PUT", ONE, params={"version": "v2"}, json={"description": "x"}), 404)
    refused(api("PUT", "/api/v1/models", params={"model_id": "x"}, json={"description": "x"}), 404)
    refused(api("DELETE", MODELS + "/other"), 404)
    refused(api("DELETE", "/api/v1/models", params={"model_id": "x"}), 404)
    refused(api("PATCH", ONE), 405)


def test_an_update_by_name_and_by_id_answers_the_model(
    api: InProcess, create: Callable[..., dict[str, Any]]
) -> None:
    made = create()
    ready(api, made["id"])
    for number, (path, params) in enumerate(
        ((ONE, {"version": "v1"}), ("/api/v1/models", {"model_id": made["id"]}))
    ):
        answer = api("PUT", path, params=params, json={"description": f"text {number}"})
        assert answer.status_code == 200
        assert answer.json()["version_info"]["description"] == f"text {number}"
    refused(api("PUT", ONE, params={"version": "v1"}, json={"progress": 3}), 400, "is ready")


def test_deleted_versions_are_gone_and_the_answer_has_no_body(
    api: InProcess, create: Callable[..., dict[str, Any]]
) -> None:
    one, two = create(), create(version="v2")
    ready(api, one["id"])
    ready(api, two["id"])
    answer = api("DELETE", ONE, params={"version": "v1"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert [m["id"] for m in api("GET", ONE).json()["models"]] == [two["id"]]
    answer = api("DELETE", "/api/v1/models", params={"model_id": two["id"]})
    assert (answer.status_code, answer.content) == (200, b"")
    refused(api("GET", ONE), 404)
    assert api("GET", MODELS).json() == {"models": []}


def test_a_ready_models_bytes_are_read_whole_or_in_part(
    api: InProcess, create: Callable[..., dict[str, Any]]
) -> None:
    made = create(file_name="net.pt", model_path=None)
    params = {"model_id": made["id"]}
    refused(api("GET", "/api/v1/models/content", params=params), 400, "is unready, not ready")
    made = ready(api, create(version="v2")["id"])
    params = {"model_id": made["id"]}
    whole = api("GET", "/api/v1/models/content", params=params)
    assert (whole.status_code, len(whole.content)) == (200, made["size_bytes"])
    assert whole.headers["etag"] == f'"{made["digest"]}"'
    part = api("GET", "/api/v1/models/content", params=params, headers={"Range": "bytes=3-10"})
    assert (part.status_code, part.content) == (206, whole.content[3:11])


def test_the_lineage_names_who_did_what(api: InProcess, create: Callable[..., dict[str, Any]]) -> None:
    made = create()
    ready(api, made["id"])
    headers = {"X-Tenant": "lab", "X-User": "anna"}
    api("GET", "/api/v1/models/content", params={"model_id": made["id"]}, headers=headers)
    answer = api("GET", "/api/v1/models/lineage", params={"model_id": made["id"]})
    assert answer.status_code == 200
    told = answer.json()
    assert told["made_from"] == {"kind": "copy", "model_path": "initial.safetensors"}
    assert [(e["action"], e["actor"], e["claimed"]) for e in told["events"]] == [
        ("create", "local", ""),
        ("ready", "coordinator", ""),
        ("download", "local", "lab/anna"),
    ]


def test_a_copy_does_not_wait_for_the_next_look(
    api: InProcess, create: Callable[..., dict[str, Any]]
) -> None:
    began = time.monotonic()
    ready(api, create()["id"])
    assert time.monotonic() - began < 5, "the caretaker is woken by the creation"


def test_a_file_is_uploaded_whole_or_in_parts_with_its_digest_checked(
    api: InProcess, create: Callable[..., dict[str, Any]]
) -> None:
    data = bytes(range(256)) * 100
    base64_digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    digest = {"Repr-Digest": f"sha-256=:{base64_digest}:"}
    made = create(file_name="net.pt", model_path=None)
    params = {"model_id": made["id"]}
    first = api(
        "PUT",
        CONTENT,
        params=params,
        content=data[:1000],
        headers={"Content-Range": f"bytes 0-999/{len(data)}"},
    )
    assert (first.status_code, first.headers["upload-offset"]) == (202, "1000")
    assert (first.json()["state"], first.json()["progress"]) == ("unready", 3)
    assert api("HEAD", CONTENT, params=params).headers["upload-offset"] == "1000"
    wrong = {"Content-Range": f"bytes 2000-2999/{len(data)}"}
    overlap = api("PUT", CONTENT, params=params, content=data[2000:3000], headers=wrong)
    refused(overlap, 409)
    assert overlap.headers["upload-offset"] == "1000"
    rest = {"Content-Range": f"bytes 1000-{len(data) - 1}/{len(data)}", **digest}
    done = api("PUT", CONTENT, params=params, content=data[1000:], headers=rest)
    assert (done.status_code, done.json()["state"]) == (200, "ready")
    assert api("GET", CONTENT, params=params).content == data
    other = create(version="v2", file_name="net.pt", model_path=None)
    params = {"model_id": other["id"]}
    refused(api("PUT", CONTENT, params=params, content=b"other", headers=digest), 400, "sha256")
    assert by_id(api, other["id"])["state"] == "error"
    answer = api("PUT", CONTENT, params=params, content=data, headers=digest)
    assert (answer.status_code, answer.json()["digest"]) == (
        200,
        f"sha256:{hashlib.sha256(data).hexdigest()}",
    )


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"Content-Range": "bytes 0-1"}, "Content-Range"),
        ({"Content-Range": "bytes 5-4/10"}, "Content-Range"),
        ({"Content-Range": "bytes 0-9/5"}, "Content-Range"),
        ({"Content-Range": "bytes 0-2/10"}, "Content-Length"),
        ({"Repr-Digest": "sha-256=abc"}, "Repr-Digest"),
        ({"Repr-Digest": "md5=:abc=:"}, "Repr-Digest"),
    ],
)
def test_an_upload_with_wrong_headers_is_refused_by_their_names(
    api: InProcess, create: Callable[..., dict[str, Any]], headers: dict[str, str], field: str
) -> None:
    made = create(file_name="net.pt", model_path=None)
    answer = api("PUT", CONTENT, params={"model_id": made["id"]}, content=b"12345", headers=headers)
    refused(answer, 400, f"{field}:")
