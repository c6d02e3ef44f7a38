"""The gateway of a real API process before real model servers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from catchment.settings import Settings
from catchment.store import Store, open_store
from tests.api.serving import ApiProcess, api_process
from tests.api.serving_rows import add_endpoint, add_serving, add_workload, figures
from tests.conftest import free_port, wait_until
from tests.model_servers import ModelServer, identity, serving

BASE = "/serving/default/m/v2"
INFER = f"{BASE}/models/m/infer"


def tensor(values: list[list[float]]) -> dict[str, Any]:
    """A request to `identity`."""
    data = [each for row in values for each in row]
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(values), 2], "data": data}]}


ONE = json.dumps(tensor([[1.0, 2.0]])).encode()


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    opened = open_store(Settings(home=home))
    yield opened
    opened.close()


@pytest.fixture
def running(home: Path) -> Iterator[ApiProcess]:
    with api_process(home, free_port()) as process:
        yield process


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ModelServer]:
    """A server that gives back what it gets, called `m`."""
    folder = identity(tmp_path / "model", "FP32")
    with serving(folder, tmp_path / "model.log") as server:
        yield server


def ask(
    api: ApiProcess,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any, http.client.HTTPMessage]:
    """One request on a connection of its own: status, body (JSON read), headers."""
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=30)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        raw = answer.read()
        is_json = answer.headers.get("content-type") == "application/json"
        return answer.status, json.loads(raw) if is_json and raw else raw, answer.headers
    finally:
        connection.close()


@pytest.fixture
def uid(store: Store, model: ModelServer) -> str:
    """The serving `m` on one server."""
    made = add_serving(store, "m", {"m-default-r1": 100})
    add_workload(store, made, "m-default-r1")
    add_endpoint(store, made, "m-default-r1", model.http)
    return made


def test_the_protocol_works_through_the_gateway(running: ApiProcess, uid: str, store: Store) -> None:
    for base in (BASE, BASE.replace("serving", "seldon")):
        status, reply, headers = ask(running, "POST", f"{base}/models/m/infer", ONE)
        assert status == 200
        assert reply["outputs"][0]["data"] == [1.0, 2.0]
        assert headers["catchment-workload"] == "m-default-r1"
        for path in ("", "/", "/health/live", "/health/ready", "/models/m", "/models/m/ready"):
            assert ask(running, "GET", base + path)[0] == 200
        assert ask(running, "HEAD", f"{base}/health/ready")[1] == b""
    by_graph = ask(running, "POST", f"{BASE}/models/classifier/versions/1/infer", ONE)
    assert (by_graph[0], by_graph[1]["model_name"]) == (200, "m")
    seen = wait_until(lambda: figures(store, uid), timeout_s=10, what="figures")
    assert isinstance(seen, dict)
    assert seen["m-default-r1"].requests == 3
    assert seen["m-default-r1"].errors == 0
    assert 0 < seen["m-default-r1"].p50_s < 1
