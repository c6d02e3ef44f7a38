"""Clients of the Open Inference Protocol that cost little: prepared bytes over plain sockets or gRPC."""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from typing import Any

import grpc
import numpy as np

from catchment.model_server.datatypes import Array
from catchment.model_server.grpc_messages import CLASSES, SERVICE

HEAD = (
    "POST /v2/models/m/infer HTTP/1.1\r\nHost: bench\r\n"
    "Content-Type: {kind}\r\n{more}Content-Length: {size}\r\n\r\n"
)


def rest_json(values: Array) -> bytes:
    """A request with its values in JSON."""
    tensor = {"name": "x", "datatype": "FP32", "shape": values.shape, "data": values.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    return HEAD.format(kind="application/json", more="", size=len(body)).encode() + body


def rest_binary(values: Array) -> bytes:
    """The same with raw bytes, asking for raw bytes."""
    parameters = {"binary_data_size": values.nbytes}
    tensor = {"name": "x", "datatype": "FP32", "shape": values.shape, "parameters": parameters}
    outputs = [{"name": "y", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
    more = f"Inference-Header-Content-Length: {len(head)}\r\n"
    size = len(head) + values.nbytes
    return (
        HEAD.format(kind="application/octet-stream", more=more, size=size).encode() + head + values.tobytes()
    )


def grpc_raw(values: Array) -> bytes:
    """A serialised ModelInferRequest with raw bytes."""
    request = CLASSES["ModelInferRequest"](model_name="m", raw_input_contents=[values.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=values.shape)
    return bytes(request.SerializeToString())


def load_rest(port: int, request: bytes, connections: int, seconds: float) -> list[float]:
    """Send the request again and again over so many connections; seconds that each answer took, sorted."""
    with selectors.DefaultSelector() as selector:
        taken: list[float] = []
        end = time.perf_counter() + seconds
        for _ in range(connections):
            client = socket.create_connection(("127.0.0.1", port))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(client, selectors.EVENT_READ, [b"", time.perf_counter()])
            client.sendall(request)
        while selector.get_map():
            for key, _ in selector.select():
                client: Any = key.fileobj
                key.data[0] += client.recv(1 << 20)
                if not _whole(key.data[0]):
                    continue
                now = time.perf_counter()
                taken.append(now - key.data[1])
                if now > end:
                    selector.unregister(client)
                    client.close()
                    continue
                key.data[:] = [b"", now]
                client.sendall(request)
    return sorted(taken)


def _whole(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return False
    assert head.startswith(b"HTTP/1.1 200"), received
    return len(body) >= int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])


def load_grpc(port: int, request: bytes, connections: int, seconds: float) -> list[float]:
    """The same over gRPC, a thread and a channel each."""
    taken: list[float] = []

    def one() -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            infer(request, wait_for_ready=True, timeout=30)
            end = time.perf_counter() + seconds
            while (began := time.perf_counter()) < end:
                infer(request, timeout=30)
                taken.append(time.perf_counter() - began)

    threads = [threading.Thread(target=one) for _ in range(connections)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return sorted(taken)


def values_of(shape: tuple[int, ...]) -> Array:
    """The same numbers every time."""
    return np.random.default_rng(0).random(shape, np.float32)
