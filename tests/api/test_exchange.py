"""The exchange: registration, polls, blobs with ranges, uploads that go on where they stopped."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pytest

from catchment.wire.messages import PollAnswer, Registered, ResultAnswer
from tests.api.orders import REGISTRATION, digest_of, offer_work
from tests.api.serving import InProcess

SITE = "/exchange/v1/sites/site-1"
WEIGHTS = bytes(range(256)) * 10
UPDATE = b"the update's bytes" * 1000
POLL = {"session": "session-1", "free": 1, "wait_s": 0}


@pytest.fixture
def weights(api: InProcess) -> str:
    """The digest of the weights of work `w1`, which is offered to the registered site-1."""
    answer = api("POST", f"{SITE}/register", json=REGISTRATION)
    assert answer.status_code == 200
    Registered.model_validate_json(answer.content)
    return offer_work(api.store, "site-1", "w1", WEIGHTS)


def blob(api: InProcess, digest: str, method: str = "GET", **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return api(method, f"{SITE}/blobs/{digest}", headers=sent)


def put(
    api: InProcess,
    part: bytes,
    *,
    start: int,
    total: int = len(UPDATE),
    digest: str = digest_of(UPDATE),
    work: str = "w1",
    site: str = SITE,
) -> httpx.Response:
    headers = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{total}", "Update-Digest": digest}
    return api("PUT", f"{site}/work/{work}/update", content=part, headers=headers)


def problem(answer: httpx.Response, code: int) -> dict[str, Any]:
    assert answer.status_code == code, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return dict(answer.json())


def test_a_site_gets_work_uploads_and_delivers(api: InProcess, weights: str) -> None:
    answer = PollAnswer.model_validate_json(api("POST", f"{SITE}/poll", json=POLL).content)
    assert [work.weights.digest for work in answer.work] == [weights]
    assert blob(api, weights).content == WEIGHTS
    assert put(api, UPDATE, start=0).headers["upload-offset"] == str(len(UPDATE))
    result = {
        "status": "done",
        "update": {"digest": digest_of(UPDATE), "size_bytes": len(UPDATE)},
        "metrics": {"loss": 0.5},
    }
    for _ in range(2):
        given = api("POST", f"{SITE}/work/w1/result", json=result)
        assert ResultAnswer.model_validate_json(given.content).accepted
    assert api("POST", f"{SITE}/leave").status_code == 204


def test_a_poll_is_held_open_until_there_is_work(api: InProcess) -> None:
    api("POST", f"{SITE}/register", json=REGISTRATION)
    threading.Timer(0.3, offer_work, (api.store, "site-1", "w1", WEIGHTS)).start()
    began = time.monotonic()
    answer = api("POST", f"{SITE}/poll", json={**POLL, "wait_s": 20}, timeout=30)
    assert [work["work_id"] for work in answer.json()["work"]] == ["w1"]
    assert 0.2 < time.monotonic() - began < 10


def test_a_goodbye_ends_its_own_session_only(api: InProcess) -> None:
    api("POST", f"{SITE}/register", json=REGISTRATION)
    problem(api("POST", f"{SITE}/leave", json={"session": "an-older-one"}), 410)
    assert api("POST", f"{SITE}/poll", json=POLL).status_code == 200
    problem(api("POST", f"{SITE}/leave", json={"sesion": POLL["session"]}), 400)
    assert api("POST", f"{SITE}/leave", json={"session": POLL["session"]}).status_code == 204
    problem(api("POST", f"{SITE}/poll", json=POLL), 410)


def test_a_site_that_is_not_registered_hears_410(api: InProcess, weights: str) -> None:
    problem(api("POST", "/exchange/v1/sites/site-2/poll", json=POLL), 410)
    problem(api("POST", f"{SITE}/poll", json={**POLL, "session": "another-one"}), 410)
    api("POST", f"{SITE}/leave")
    problem(api("POST", f"{SITE}/poll", json=POLL), 410)


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("register", '{"session": "session-1"}', "address"),
        ("register", "{", "no JSON"),
        ("register", '{"protocol": 2, "session": "session-1", "address": "a:1", "runtimes": []}', "protocol"),
        ("poll", '{"session": "session-1", "free": -1}', "free"),
        ("poll", '{"session": "session-1", "free": 1, "hurry": true}', "hurry"),
        ("work/w1/result", '{"status": "fine"}', "status"),
        ("work/w1/result", '{"status": "done", "metrics": {"loss": NaN}}', "NaN"),
    ],
)
def test_malformed_messages_are_400_and_name_the_field(
    api: InProcess, path: str, text: str, words: str
) -> None:
    assert words in problem(api.send_json("POST", f"{SITE}/{path}", text), 400)["detail"]


def test_a_site_name_must_be_one(api: InProcess) -> None:
    assert (
        "site" in problem(api("POST", "/exchange/v1/sites/Site_1/register", json=REGISTRATION), 400)["detail"]
    )


def test_a_blob_is_named_by_its_digest(api: InProcess, weights: str) -> None:
    whole = blob(api, weights)
    assert whole.headers["etag"] == f'"{weights}"'
    assert whole.headers["content-length"] == str(len(WEIGHTS))
    assert blob(api, weights, If_None_Match=whole.headers["etag"]).status_code == 304
    assert blob(api, weights, If_None_Match='"sha256:other"').status_code == 200
    head = blob(api, weights, "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(WEIGHTS))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("bytes=0-99", WEIGHTS[:100]),
        ("bytes=100-", WEIGHTS[100:]),
        ("bytes=100-100", WEIGHTS[100:101]),
        ("bytes=-10", WEIGHTS[-10:]),
        ("bytes=2000-99999", WEIGHTS[2000:]),
    ],
)
def test_a_range_of_a_blob(api: InProcess, weights: str, wanted: str, expected: bytes) -> None:
    answer = blob(api, weights, Range=wanted)
    assert (answer.status_code, answer.content) == (206, expected)
    start = WEIGHTS.index(expected) if len(expected) > 1 else 100
    start = len(WEIGHTS) - len(expected) if wanted.endswith(("-", "99999", "-10")) else start
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{len(WEIGHTS)}"


@pytest.mark.parametrize("wanted", ["bytes=9-3", "bytes=0-1,5-6", "lines=1-2", "bytes=x-"])
def test_what_is_no_single_range_gets_the_whole(api: InProcess, weights: str, wanted: str) -> None:
    answer = blob(api, weights, Range=wanted)
    assert (answer.status_code, answer.content) == (200, WEIGHTS)


def test_a_range_of_another_version_gets_the_whole(api: InProcess, weights: str) -> None:
    assert blob(api, weights, Range="bytes=5-", If_Range='"sha256:old"').status_code == 200
    assert blob(api, weights, Range="bytes=5-", If_Range=f'"{weights}"').status_code == 206


@pytest.mark.parametrize("wanted", [f"bytes={len(WEIGHTS)}-", "bytes=-0"])
def test_a_range_outside_is_416(api: InProcess, weights: str, wanted: str) -> None:
    answer = blob(api, weights, Range=wanted)
    problem(answer, 416)
    assert answer.headers["content-range"] == f"bytes */{len(WEIGHTS)}"


def test_blobs_and_work_of_others_stay_with_them(api: InProcess, weights: str) -> None:
    api("POST", "/exchange/v1/sites/site-2/register", json={**REGISTRATION, "address": "10.0.0.2:1"})
    other = "/exchange/v1/sites/site-2"
    problem(api("GET", f"{other}/blobs/{weights}"), 403)
    problem(api("GET", f"{SITE}/blobs/sha256:{'0' * 64}"), 403)
    problem(api("GET", f"{SITE}/blobs/no-digest"), 403)
    problem(put(api, UPDATE, start=0, site=other), 404)
    problem(api("POST", f"{other}/work/w1/result", json={"status": "failed"}), 404)
    assert api("HEAD", f"{other}/work/w1/update").status_code == 404


def test_an_upload_goes_on_where_it_stopped(api: InProcess, weights: str) -> None:
    assert api("HEAD", f"{SITE}/work/w1/update").headers["upload-offset"] == "0"
    first = put(api, UPDATE[:7000], start=0)
    assert (first.status_code, first.headers["upload-offset"]) == (204, "7000")
    for wrong in (0, 6999, 7001):
        refused = put(api, UPDATE[wrong:], start=wrong)
        assert problem(refused, 409)["offset"] == 7000
        assert refused.headers["upload-offset"] == "7000"
    assert api("HEAD", f"{SITE}/work/w1/update").headers["upload-offset"] == "7000"
    rest = put(api, UPDATE[7000:], start=7000)
    assert (rest.status_code, rest.headers["upload-offset"]) == (204, str(len(UPDATE)))
    assert put(api, UPDATE[7000:], start=7000).headers["upload-offset"] == str(len(UPDATE)), "repeated"


def test_a_wrong_digest_begins_the_upload_anew(api: InProcess, weights: str) -> None:
    answer = put(api, UPDATE, start=0, digest=digest_of(b"something else"))
    assert "sha256" in problem(answer, 422)["detail"]
    assert api("HEAD", f"{SITE}/work/w1/update").headers["upload-offset"] == "0"
    assert put(api, UPDATE, start=0).status_code == 204


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({}, "Content-Range"),
        ({"Content-Range": "bytes 0-9/10"}, "Update-Digest"),
        ({"Content-Range": "bytes 0-9/10", "Update-Digest": "md5:abc"}, "Update-Digest"),
        ({"Content-Range": "bytes 9-0/10"}, "Content-Range"),
        ({"Content-Range": "bytes 0-10/10"}, "Content-Range"),
        ({"Content-Range": "bytes */10"}, "Content-Range"),
        ({"Content-Range": "bytes 0-8/10"}, "Content-Length"),
    ],
)
def test_a_chunk_must_say_what_it_is(
    api: InProcess, weights: str, headers: dict[str, str], named: str
) -> None:
    digest = {} if named == "Update-Digest" else {"Update-Digest": digest_of(b"0123456789")}
    answer = api("PUT", f"{SITE}/work/w1/update", content=b"0123456789", headers={**digest, **headers})
    assert problem(answer, 400)["field"] == named


def test_more_bytes_than_announced_are_refused(api: InProcess, weights: str) -> None:
    async def more() -> Any:
        yield b"0123456789"
        yield b"0123456789"

    headers = {"Content-Range": "bytes 0-9/30", "Update-Digest": digest_of(UPDATE)}
    answer = api("PUT", f"{SITE}/work/w1/update", content=more(), headers=headers)
    assert "more bytes" in problem(answer, 400)["detail"]


def test_a_result_without_its_update_is_refused(api: InProcess, weights: str) -> None:
    result = {"status": "done", "update": {"digest": digest_of(UPDATE), "size_bytes": len(UPDATE)}}
    assert "upload it first" in problem(api("POST", f"{SITE}/work/w1/result", json=result), 409)["detail"]
