"""What goes through the gateway, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.errors import NotFound
from catchment.serving.gateway.addresses import is_gateway, parse
from catchment.serving.gateway.retrying import MOST_BROKEN, MOST_TRIES, is_tried_again, says_elsewhere


@pytest.mark.parametrize("prefix", ["seldon", "serving"])
@pytest.mark.parametrize(
    ("path", "inner", "methods"),
    [
        ("", "/v2", ("GET", "HEAD")),
        ("/health/ready", "/v2/health/ready", ("GET", "HEAD")),
        ("/models/graph", "/v2/models/m", ("GET", "HEAD")),
        ("/models/graph/ready", "/v2/models/m/ready", ("GET", "HEAD")),
        ("/models/m/versions/3/infer", "/v2/models/m/versions/3/infer", ("POST",)),
    ],
)
def test_inference_goes_through(prefix: str, path: str, inner: str, methods: tuple[str, ...]) -> None:
    asked = parse(f"/{prefix}/ns/digits/v2{path}")
    assert (asked.namespace, asked.serving, asked.inner("m"), asked.methods) == (
        "ns",
        "digits",
        inner,
        methods,
    )


@pytest.mark.parametrize(
    "path",
    [
        "/serving/ns/m",
        "/serving/ns/m/v1/models/m",
        "/serving/ns/m/v2x",
        "/serving/ns/m/v2/repository/index",
        "/serving/ns/m/v2/repository/models/m/unload",
        "/serving/ns/m/v2/logging",
        "/serving/ns/m/v2/models/m/infer/more",
        "/serving/ns/m/v2/models/m/versions/../infer",
        "/serving/ns/m/v2/models/m/versions/1\r\nX: y/infer",
    ],
)
def test_nothing_else_does(path: str) -> None:
    with pytest.raises(NotFound):
        parse(path)


@given(st.text(max_size=60))
def test_no_name_of_a_client_reaches_a_server(tail: str) -> None:
    path = f"/serving/ns/m/v2{tail}"
    assert is_gateway(path)
    try:
        inner = parse(path).inner("m")
    except NotFound:
        return
    assert inner.isascii()
    assert inner.isprintable()
    assert ".." not in inner.split("/")


def test_a_server_that_stops_or_loads_says_so() -> None:
    assert says_elsewhere(503, b'{"error":"the server is stopping"}')
    assert says_elsewhere(503, b'{"error":"the model is still being loaded"}')
    assert not says_elsewhere(503, b'{"error":"the server is overloaded"}')
    assert not says_elsewhere(503, b'{"error":"68 requests run or wait already"}')
    assert not says_elsewhere(500, b'{"error":"stopping"}')


def test_tries_end() -> None:
    assert is_tried_again(1, 1, replayable=True)
    assert not is_tried_again(1, 0, replayable=False)
    assert not is_tried_again(MOST_TRIES, 0, replayable=True)
    assert not is_tried_again(2, MOST_BROKEN, replayable=True)
