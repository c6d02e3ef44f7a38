"""Small ONNX models, and model servers as users start them: processes of their own."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

ROOT = Path(__file__).resolve().parent.parent
STARTS_S = 60.0
ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def save(folder: Path, graph: onnx.GraphProto) -> Path:
    """A model's folder with this graph."""
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


def identity(folder: Path, datatype: str, shape: Sequence[int | str] = ("n", 2)) -> Path:
    """Gives back `x` as `y`."""
    kind = ONNX_TYPES[datatype]
    node = helper.make_node("Identity", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, kind, shape) for name in "xy")
    return save(folder, helper.make_graph([node], "identity", [x], [y]))


def linear(folder: Path) -> Path:
    """`sum` = a + b and `product` = a * b of FP32 [n, 3]; `n` must be the same in both."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])]
    made = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3])
        for name in ("a", "b", "sum", "product")
    }
    return save(
        folder,
        helper.make_graph(nodes, "linear", [made["a"], made["b"]], [made["sum"], made["product"]]),
    )


def counter(folder: Path) -> Path:
    """Adds 1 to a number `turns` times, one operator each: takes as long as the client says."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["value", "one"], ["next"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.INT64, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.INT64, []),
        ],
        [helper.make_tensor("one", TensorProto.INT64, [], [1])],
    )
    nodes = [
        helper.make_node("Squeeze", ["turns"], ["scalar"]),
        helper.make_node("Loop", ["scalar", "", "zero"], ["counted"], body=body),
    ]
    graph = helper.make_graph(
        nodes,
        "counter",
        [helper.make_tensor_value_info("turns", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("counted", TensorProto.INT64, [])],
        [helper.make_tensor("zero", TensorProto.INT64, [], [0])],
    )
    return save(folder, graph)


def lookup(folder: Path) -> Path:
    """`row` of a table of two rows: any other index makes the model fail."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [2, 1], [1.0, 2.0])
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "row"], ["value"])],
        "lookup",
        [helper.make_tensor_value_info("row", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n", 1])],
        [table],
    )
    return save(folder, graph)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def reply_on(connection: http.client.HTTPConnection) -> tuple[int, Any, http.client.HTTPMessage]:
    """What comes for the request that was sent: status, body (JSON read where there is some), headers."""
    answer = connection.getresponse()
    raw = answer.read()
    is_json = answer.headers.get("content-type") == "application/json"
    return answer.status, json.loads(raw) if is_json and raw else raw, answer.headers


@dataclass(frozen=True)
class ModelServer:
    """One running model server."""

    process: subprocess.Popen[bytes]
    http: int
    grpc: int
    log: Path

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        """One request on a connection of its own: status, body (JSON read), headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            return reply_on(connection)
        finally:
            connection.close()

    def infer(self, document: object) -> tuple[int, Any]:
        """POST this to the model `m`."""
        status, body, _ = self.ask("POST", "/v2/models/m/infer", json.dumps(document).encode())
        return status, body

    def lines(self) -> list[dict[str, Any]]:
        """The log; every line of it is JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def value(self, series: str) -> float:
        """A figure of /metrics, by the beginning of its line."""
        _, text, _ = self.ask("GET", "/metrics")
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in text.decode().splitlines() if line.startswith(series)
        )


def until(condition: Any, deadline_s: float = 30.0) -> None:
    """Wait for a condition; it must come true in time."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)


def start(
    folder: Path, log: Path, http_port: int = 0, grpc_port: int = 0, **config: object
) -> subprocess.Popen[bytes]:
    """`python -m api.model_server` for a model, which is called `m`."""
    options = ["--model", str(folder), "--name", "m", "--config", json.dumps(config)]
    ports = ["--http-port", str(http_port), "--grpc-port", str(grpc_port)]
    with log.open("wb") as written:
        return subprocess.Popen(
            [sys.executable, "-m", "api.model_server", *options, *ports],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
            stderr=written,
        )


@contextmanager
def serving(folder: Path, log: Path, **config: object) -> Iterator[ModelServer]:
    """A server of the model in `folder`, ready; killed at the end if it is still there."""
    http_port, grpc_port = free_port(), free_port()
    process = start(folder, log, http_port, grpc_port, **config)
    server = ModelServer(process, http_port, grpc_port, log)
    try:
        until(lambda: process.poll() is not None or _ready(server), STARTS_S)
        assert process.poll() is None, log.read_text()
        yield server
    finally:
        process.kill()
        process.wait(10)


def _ready(server: ModelServer) -> bool:
    try:
        return server.ask("GET", "/v2/health/ready")[0] == 200
    except OSError:
        return False


def fp32(name: str, values: Sequence[Sequence[float]]) -> dict[str, Any]:
    """An input with its values in JSON."""
    array = np.array(values, np.float32)
    return {"name": name, "datatype": "FP32", "shape": list(array.shape), "data": array.ravel().tolist()}


def turns(count: int) -> dict[str, Any]:
    """A request to `counter`."""
    return {"inputs": [{"name": "turns", "datatype": "INT64", "shape": [1], "data": [count]}]}
