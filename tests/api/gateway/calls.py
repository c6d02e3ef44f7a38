"""Requests to the gateway, servers that it asks, and how it does under load."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.api.serving import ApiProcess
from tests.model_servers import reply_on, save

BASE = "/serving/default/m/v2"
INFER = f"{BASE}/models/m/infer"


def tensor(values: list[list[float]]) -> dict[str, Any]:
    """A request to `identity`."""
    data = [each for row in values for each in row]
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(values), 2], "data": data}]}


ONE = json.dumps(tensor([[1.0, 2.0]])).encode()


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
        return reply_on(connection)
    finally:
        connection.close()


def ask_in_chunks(
    api: ApiProcess, path: str, body: bytes, headers: Mapping[str, str]
) -> tuple[int, Any, http.client.HTTPMessage]:
    """The body in pieces of a megabyte, its length unsaid."""
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=60)
    try:
        pieces = (body[at : at + (1 << 20)] for at in range(0, len(body), 1 << 20))
        connection.request("POST", path, pieces, dict(headers), encode_chunked=True)
        return reply_on(connection)
    finally:
        connection.close()


def send_raw(api: ApiProcess, data: bytes) -> bytes:
    """What comes back for these bytes, until the server closes or says nothing for a second."""
    host, port = api.url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=1) as connection:
        connection.sendall(data)
        with suppress(TimeoutError, ConnectionError):
            while part := connection.recv(1 << 16):
                received += part
    return received


def binary(values: np.ndarray[Any, Any]) -> tuple[bytes, dict[str, str]]:
    """A request with raw bytes that asks for raw bytes: body and headers."""
    given = {"name": "x", "datatype": "FP32", "shape": list(values.shape)}
    given["parameters"] = {"binary_data_size": values.nbytes}
    head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    return head + values.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def negation(folder: Path) -> Path:
    """Gives back `x` as `y`, with the other sign: its largest entry is another one."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", 2)) for name in "xy")
    node = helper.make_node("Neg", ["x"], ["y"])
    return save(folder, helper.make_graph([node], "negation", [x], [y]))


def peak_mib(api: ApiProcess) -> float:
    """The most memory that the process has held."""
    status = Path(f"/proc/{api.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@contextmanager
def under_load(api: ApiProcess) -> Iterator[list[int]]:
    """Sixteen connections that ask again and again; the statuses, 0 for a broken connection."""
    seen: list[int] = []
    over = threading.Event()

    def run() -> None:
        connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=30)
        while not over.is_set():
            try:
                connection.request("POST", INFER, ONE)
                answer = connection.getresponse()
                answer.read()
                seen.append(answer.status)
            except (OSError, http.client.HTTPException):
                seen.append(0)
                connection.close()
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(16)]
    for each in threads:
        each.start()
    try:
        yield seen
    finally:
        over.set()
        for each in threads:
            each.join(60)


@contextmanager
def listener(
    answer: bytes | None = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
) -> Iterator[tuple[int, list[bytes]]]:
    """Answers every request so, None not at all: its port, and what it got."""
    heads: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while part := connection.recv(1 << 16):
                heads.append(part)
                if answer is not None:
                    connection.sendall(answer)
                    if b"Content-Length: 0" not in answer:
                        return
            heads.append(b"closed")

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listening.getsockname()[1], heads
        finally:
            listening.shutdown(socket.SHUT_RDWR)
