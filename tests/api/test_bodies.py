"""What arrives as JSON is strict: nothing ambiguous gets through, and every refusal says why."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.bodies import DEPTH, JOB_BYTES, MESSAGE_BYTES, parse
from catchment.errors import InvalidField
from tests.api.serving import InProcess

JOBS = "/api/v1/namespaces/default/jobs"
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc\u00e9"), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_plain_json_arrives_as_it_was_sent(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    with contextlib.suppress(InvalidField):
        parse(raw, strict_text=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b'{"id": "a",}', "no JSON"),
        (b'{"id": "a"} {}', "no JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "no JSON"),
        (b'{"id": "a", "id": "b"}', "id: is given twice"),
        (b'{"parameters": {"--lr": 1, "--lr": 2}}', "--lr: is given twice"),
        (b'{"seed": NaN}', "NaN"),
        (b'{"seed": -Infinity}', "-Infinity"),
        (b'{"redundancy": 1e999}', "1e999"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "too many digits"),
        (b"[" * 100_000, "nested deeper"),
        (b"[" * (DEPTH + 2) + b"]" * (DEPTH + 2), "nested deeper"),
        (b'{"description": "a\\u0000b"}', "description: contains a NUL"),
        (b'{"parameters": {"--name": "\\ud800"}}', "parameters.--name: contains half a surrogate"),
        (b"[]", "a JSON object is required"),
        (b"null", "a JSON object is required"),
        (b'"job"', "a JSON object is required"),
        (b'{"x": "' + b"a" * JOB_BYTES + b'"}', f"more than {JOB_BYTES} bytes"),
    ],
)
def test_what_is_no_job_is_403_with_a_reason(api: InProcess, text: bytes, words: str) -> None:
    for method, path in (("POST", JOBS), ("PUT", f"{JOBS}/digits")):
        answer = api.send_json(method, path, text)
        assert answer.status_code == 403
        assert answer.json()["state"] == "FAILED"
        assert words in answer.json()["reason"]


@pytest.mark.parametrize(
    ("content_type", "accepted"),
    [
        (None, True),
        ("application/json", True),
        ("Application/JSON; charset=UTF-8", True),
        ("application/merge-patch+json", True),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=x", False),
        ("application/json; charset=latin-1", False),
    ],
)
def test_content_types(
    api: InProcess, job: Callable[..., dict[str, Any]], content_type: str | None, accepted: bool
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = api("POST", JOBS, content=json.dumps(job()), headers=headers)
    assert answer.status_code == (201 if accepted else 403)
    if not accepted:
        assert answer.json()["reason"].startswith("Content-Type: ")


def test_a_large_body_without_a_length_is_refused_too(api: InProcess) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * (1 << 20)

    answer = api("POST", JOBS, content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 403
    assert f"more than {JOB_BYTES} bytes" in answer.json()["reason"]


def test_a_body_with_too_many_bytes_is_413_unless_the_document_has_another_code(api: InProcess) -> None:
    """Every operation of the API's own document that takes JSON."""
    elsewhere = {JOBS: 403, f"{JOBS}/{{job_id}}": 403, ("post", "/api/v1/namespaces/{namespace}/models"): 400}
    asked = 0
    for path, operations in api("GET", "/api/v1/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            if "application/json" not in operation.get("requestBody", {}).get("content", {}):
                continue
            asked += 1
            said = path.replace("{namespace}", "default")
            expected = elsewhere.get(said, elsewhere.get((method, path), 413))
            assert str(expected) in operation["responses"], (method, path)
            limit = MESSAGE_BYTES if path.startswith("/exchange/") else JOB_BYTES
            answer = api(
                method.upper(),
                re.sub(r"{(\w+)}", "x", said),
                content=b" " * (limit + 1),
                headers={"Content-Type": "application/json"},
            )
            assert answer.status_code == expected, (method, path, answer.text)
            assert f"more than {limit} bytes" in answer.text, (method, path)
    assert asked >= 15
