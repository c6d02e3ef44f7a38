"""Log lines: fields of what they are about, and no secret in them."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest

from catchment.observe import logs, trace
from catchment.observe.logs import JsonLines, LogFormat, about, redacted

SECRETS = [
    ("Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.abc", "eyJhbGciOiJIUzI1NiJ9.abc"),
    ("sent 'authorization': 'Basic YWRtaW46c2VjcmV0'", "YWRtaW46c2VjcmV0"),
    ("token catchment_0123456789abcdef_s3cr3ts3cr3ts3cr3ts3cr3t is revoked", "s3cr3ts3cr3ts3cr3ts3cr3t"),
    ("cannot reach postgresql://catchment:hunter2@db:5432/store", "hunter2"),
    ("GET https://bucket.s3/x?X-Amz-Credential=AKIAIOSFODNN7&X-Amz-Signature=deadbeef", "deadbeef"),
    ("GET https://bucket.s3/x?X-Amz-Credential=AKIAIOSFODNN7&X-Amz-Signature=deadbeef", "AKIAIOSFODNN7"),
    ("GET https://host/x?token=opensesame&page=2", "opensesame"),
    ('{"password": "hunter2", "user": "a"}', "hunter2"),
    ("aws_secret_access_key=wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI/K7MDENG"),
    ("https://x:hunter2@registry.example/v2/", "hunter2"),
]


@pytest.fixture
def written() -> Iterator[tuple[logging.Logger, io.StringIO, logging.Handler]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("test.observe")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    yield logger, stream, handler
    logger.removeHandler(handler)
    logger.propagate = True


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_no_secret_is_written(written: Any, log_format: LogFormat, text: str, secret: str) -> None:
    logger, stream, handler = written
    handler.setFormatter(logs.formatter(log_format))
    logger.warning("it said: %s", text)
    error = ValueError(text)
    logger.error("failed", exc_info=error)
    assert secret not in stream.getvalue()
    assert "[hidden]" in stream.getvalue()


def test_what_is_no_secret_stays() -> None:
    for text in (
        "tokens are counted: 12 tokens in 3 s",
        "https://host:8080/api/v1/jobs?offset=3",
        "round 3 of job 'bearer' waits for sites",
        "sha256:" + "ab" * 32,
        "catchment_api_requests_total",
    ):
        assert redacted(text) == text
    assert redacted("x?token=a&page=2") == "x?token=[hidden]&page=2"
    assert redacted(redacted("x?token=abc")) == redacted("x?token=abc")


def test_lines_have_what_they_are_about_as_fields(written: Any) -> None:
    logger, stream, handler = written
    handler.setFormatter(JsonLines(part="site", site="a"))
    with about(job="j", round=3), about(work="w"):
        logger.info("inside", extra={"facts": {"seconds": 1.5}})
    logger.info("outside")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["message"] == "inside"
    wanted = {"part": "site", "site": "a", "job": "j", "round": 3, "work": "w", "seconds": 1.5}
    assert wanted.items() <= first.items()
    assert second.keys() == {"time", "level", "logger", "message", "part", "site"}


def test_threads_that_take_over_the_context_take_over_the_fields(written: Any) -> None:
    logger, stream, handler = written
    handler.setFormatter(JsonLines())
    with about(job="j"):
        thread = threading.Thread(target=copy_context().run, args=(logger.info, "there"))
    thread.start()
    thread.join()
    assert json.loads(stream.getvalue())["job"] == "j"


def test_prefects_run_and_the_trace_are_fields(written: Any) -> None:
    logger, stream, handler = written
    handler.setFormatter(JsonLines())

    class Nowhere:
        def take(self, span: trace.Finished) -> None: ...
        def flush(self, timeout_s: float) -> None: ...

    before = trace.send_to(Nowhere())
    try:
        with trace.span("x", job="uid"):
            logger.info("one", extra={"flow_run_id": "run-1"})
    finally:
        trace.send_to(before)
    line = json.loads(stream.getvalue())
    assert line["run_id"] == "run-1"
    assert line["trace_id"] == trace.of("uid").trace_id


def test_prefects_own_consoles_are_taken_over() -> None:
    """In a process of its own: Prefect sets its handlers up when it is imported."""
    code = """
import logging
import prefect.main
from catchment.observe import logs
logs.configure("json", "runner")
logs.take_over("json", "flow")
logging.getLogger("prefect.engine").error("of prefect %s", "x" * 300, extra={"flow_run_id": "r1"})
logging.getLogger("catchment").error("of ours")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["part"], line["message"][:9]) for line in lines] == [
        ("flow", "of prefec"),
        ("flow", "of ours"),
    ]
    assert lines[0]["run_id"] == "r1"
