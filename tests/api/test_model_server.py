"""The model server as users run it: a process, its two ports, its signals, its bounds."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catchment.model_server.grpc_messages import CLASSES, SERVICE
from tests.model_servers import (
    ModelServer,
    counter,
    fp32,
    free_port,
    identity,
    linear,
    lookup,
    serving,
    start,
    turns,
    until,
)

ENDLESS = 1 << 60
SOME = 300_000
"""Turns that take some tenths of a second."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("linear")
    with serving(linear(folder / "model"), folder / "log", max_request_bytes=4096) as running:
        yield running


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[ModelServer]:
    with serving(
        counter(tmp_path / "model"), tmp_path / "log", concurrency=1, queue=1, deadline_s=1.0
    ) as running:
        yield running


def linear_request(rows: int = 1) -> dict[str, Any]:
    return {"inputs": [fp32("a", [[1, 2, 3]] * rows), fp32("b", [[4, 5, 6]] * rows)]}


def call(server: ModelServer, method_name: str, timeout: float = 20, **fields: Any) -> Any:
    """One gRPC call; fields of its request as keywords."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        method = channel.unary_unary(
            f"/{SERVICE}/{method_name}",
            CLASSES[f"{method_name}Request"].SerializeToString,
            CLASSES[f"{method_name}Response"].FromString,
        )
        return method(CLASSES[f"{method_name}Request"](**fields), timeout=timeout)


def test_metadata_and_health_are_those_of_the_protocol(server: ModelServer) -> None:
    tensor = {"datatype": "FP32", "shape": [-1, 3]}
    model = {
        "name": "m",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "a", **tensor}, {"name": "b", **tensor}],
        "outputs": [{"name": "sum", **tensor}, {"name": "product", **tensor}],
    }
    for path, expected in {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        "/v2/models/m": model,
        "/v2/models/m/versions/1": model,
        "/v2/models/m/ready": {"name": "m", "ready": True},
        "/v2/models/m/versions/1/ready": {"name": "m", "ready": True},
    }.items():
        status, body, _ = server.ask("GET", path)
        assert (path, status, body) == (path, 200, expected)
    status, body, _ = server.ask("GET", "/v2")
    assert (status, body["name"], body["extensions"]) == (200, "catchment", ["binary_tensor_data"])
    assert call(server, "ServerLive").live
    assert call(server, "ModelReady", name="m").ready
    assert [list(each.shape) for each in call(server, "ModelMetadata", name="m").inputs] == [[-1, 3]] * 2


def test_json_is_answered_with_json(server: ModelServer) -> None:
    status, body = server.infer({**linear_request(), "id": "7", "outputs": [{"name": "product"}]})
    assert status == 200
    assert body == {
        "model_name": "m",
        "model_version": "1",
        "id": "7",
        "outputs": [{"name": "product", "datatype": "FP32", "shape": [1, 3], "data": [4.0, 10.0, 18.0]}],
    }


def test_raw_bytes_are_answered_with_raw_bytes(server: ModelServer) -> None:
    a, b = np.array([[1, 2, 3]], "<f4"), np.array([[4, 5, 6]], "<f4")
    described = [
        {"name": name, "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}
        for name in "ab"
    ]
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
    status, body, headers = server.ask(
        "POST",
        "/v2/models/m/versions/1/infer",
        head + a.tobytes() + b.tobytes(),
        {"Inference-Header-Content-Length": str(len(head))},
    )
    assert status == 200
    length = int(headers["inference-header-content-length"])
    assert [each["parameters"] for each in json.loads(body[:length])["outputs"]] == [
        {"binary_data_size": 12}
    ] * 2
    assert body[length:] == (a + b).tobytes() + (a * b).tobytes()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/m/versions/2", 404),
        ("GET", "/v2/models/m/../m", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/m/versions/2/infer", 404),
        ("GET", "/v2/models/m/infer", 405),
        ("POST", "/v2", 405),
        ("POST", "/v2/models/m/infer", 400),
    ],
)
def test_other_addresses_are_refused_in_a_sentence(
    server: ModelServer, method: str, path: str, status: int
) -> None:
    got, body, _ = server.ask(method, path, b"" if method == "POST" else None)
    assert got == status
    assert set(body) == {"error"}
    assert body["error"]


def test_wrong_tensors_are_refused_by_name(server: ModelServer) -> None:
    a, b = linear_request()["inputs"]
    for inputs, named in (
        ([a], "missing: 'b'"),
        ([a, {**b, "name": "c"}], "not an input: 'c'"),
        ([a, {**b, "datatype": "FP64"}], "inputs.b.datatype"),
        ([a, {**b, "shape": [3, 1]}], "inputs.b.shape"),
        ([a, {**b, "shape": [2, 3], "data": [0] * 6}], "'n' is 1 in another dimension"),
    ):
        status, body = server.infer({"inputs": inputs})
        assert status == 400
        assert named in body["error"]


@pytest.mark.parametrize("size", [5_000, 16_000, 1_000_000])
def test_requests_that_are_too_large_are_refused(server: ModelServer, size: int) -> None:
    for body in (bytes(size), iter([bytes(1000)] * (size // 1000))):
        try:
            status, answer, _ = server.ask("POST", "/v2/models/m/infer", body)  # type: ignore[arg-type]
        except (BrokenPipeError, ConnectionResetError):
            assert size == 1_000_000  # far beyond the bound the server does not read on
        else:
            assert status == 413
            assert "4096 bytes" in answer["error"]
    with pytest.raises(grpc.RpcError) as raised:
        call(server, "ModelInfer", raw_input_contents=[bytes(2 << 20)])
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.infer(linear_request())[0] == 200


def test_compressed_bodies_are_refused(server: ModelServer) -> None:
    status, body, _ = server.ask("POST", "/v2/models/m/infer", b"{}", {"Content-Encoding": "gzip"})
    assert status == 400
    assert "compressed" in body["error"]


def test_bodies_that_break_off_or_lie_leave_the_server_up(server: ModelServer) -> None:
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\n"
    for sent in (
        head + b"content-length: 100\r\n\r\n{",
        head + b"content-length: -5\r\n\r\n{}",
        head + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        head + b"content-length: 99999999999999999999999\r\n\r\n{}",
        head + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}",
        head + b"x: " + b"y" * 1_000_000 + b"\r\n\r\n",
        head + b"inference-header-content-length: \xff\r\ncontent-length: 2\r\n\r\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ):
        with socket.create_connection(("127.0.0.1", server.http), timeout=20) as client:
            try:
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
                answer = client.recv(1 << 16)
            except TimeoutError:
                raise
            except OSError:  # closed before all was sent
                continue
            assert b" 200 " not in answer[:20]
    until(lambda: server.value("catchment_serving_in_flight") == 0)
    assert server.infer(linear_request())[0] == 200
    assert not [line for line in server.lines() if line["level"] == "error"]


PIECES = st.sampled_from(
    [b'"x"', b"[", b"]", b"{", b"}", b"-1", b"1e999", b"NaN", b"null", b"9" * 30, b'"FP64"', b"\xff", b"\0"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 12), PIECES | st.binary(max_size=6)), max_size=4),
    st.none() | st.integers(0, 400).map(str) | st.sampled_from(["-1", "x", "9" * 50]),
)
def test_no_damaged_request_does_more_than_be_refused(
    server: ModelServer, damages: list[tuple[int, int, bytes]], length: str | None
) -> None:
    body = json.dumps(linear_request()).encode()
    for at, removed, put in damages:
        body = body[:at] + put + body[at + removed :]
    headers = {} if length is None else {"Inference-Header-Content-Length": length}
    status, answer, _ = server.ask("POST", "/v2/models/m/infer", body, headers)
    assert status in {200, 400}
    assert "error" in answer or answer["outputs"]
    assert server.process.poll() is None


def test_a_body_that_does_not_arrive_is_given_up(counting: ModelServer) -> None:
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\n"
    for more in (b"content-length: 100\r\n\r\n{", b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"):
        with socket.create_connection(("127.0.0.1", counting.http), timeout=20) as client:
            client.sendall(head + more)
            assert b" 504 " in client.recv(1 << 16)
    assert counting.value("catchment_serving_in_flight") == 0


def test_sixteen_connections_get_each_its_own_answer(server: ModelServer) -> None:
    wrong: list[object] = []

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.http, timeout=60)
        for turn in range(30):
            value = number * 1000 + turn
            document = {"inputs": [fp32("a", [[value, 0, 0]]), fp32("b", [[1, 0, 0]])]}
            connection.request("POST", "/v2/models/m/infer", json.dumps(document))
            answer = connection.getresponse()
            got = json.loads(answer.read())
            if answer.status != 200 or got["outputs"][0]["data"][0] != value + 1:
                wrong.append((value, got))
        connection.close()

    threads = [threading.Thread(target=ask, args=(each,)) for each in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
    assert wrong == []


def test_figures_count_what_was_answered(server: ModelServer) -> None:
    def count(protocol: str, code: str) -> float:
        labels = f'model="m",version="1",protocol="{protocol}",code="{code}"'
        return server.value(f"catchment_serving_requests_total{{{labels}}}")

    before = count("rest", "200"), count("rest", "400"), count("grpc", "INVALID_ARGUMENT")
    server.infer(linear_request())
    server.infer({})
    with pytest.raises(grpc.RpcError):
        call(server, "ModelInfer", model_name="m")
    after = count("rest", "200"), count("rest", "400"), count("grpc", "INVALID_ARGUMENT")
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1]
    assert server.value("catchment_serving_model_info") == 1


def test_nan_goes_as_raw_bytes_and_not_as_json(tmp_path: Path) -> None:
    with serving(identity(tmp_path / "model", "FP16"), tmp_path / "log") as running:
        raw = np.array([[np.nan, 1]], "<f2").tobytes()
        described = {"name": "x", "datatype": "FP16", "shape": [1, 2], "parameters": {"binary_data_size": 4}}
        for binary, status in ((True, 200), (False, 400)):
            head = json.dumps({"inputs": [described], "parameters": {"binary_data_output": binary}}).encode()
            length = {"Inference-Header-Content-Length": str(len(head))}
            got, body, _ = running.ask("POST", "/v2/models/m/infer", head + raw, length)
            assert got == status
            assert body.endswith(raw) if binary else "ask for it with binary_data" in body["error"]


def test_a_model_that_fails_answers_500_and_serves_on(tmp_path: Path) -> None:
    with serving(lookup(tmp_path / "model"), tmp_path / "log") as running:

        def ask(row: int) -> tuple[int, Any]:
            return running.infer(
                {"inputs": [{"name": "row", "datatype": "INT64", "shape": [1], "data": [row]}]}
            )

        status, body = ask(7)
        assert status == 500
        assert "out of data bounds" in body["error"]
        assert ask(1)[1]["outputs"][0]["data"] == [2.0]


def test_an_inference_is_given_up_at_its_deadline(counting: ModelServer) -> None:
    began = time.monotonic()
    status, body = counting.infer(turns(ENDLESS))
    assert (status, set(body)) == (504, {"error"})
    assert time.monotonic() - began < 20
    endless = np.array([ENDLESS], "<i8").tobytes()
    tensor = CLASSES["ModelInferRequest.InferInputTensor"](name="turns", datatype="INT64", shape=[1])
    with pytest.raises(grpc.RpcError) as raised:
        call(counting, "ModelInfer", model_name="m", inputs=[tensor], raw_input_contents=[endless])
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: counting.value("catchment_serving_running") == 0)
    assert counting.infer(turns(3))[1]["outputs"][0]["data"] == [3]


def test_a_quick_model_that_suddenly_is_not_holds_up_nobody_for_long(tmp_path: Path) -> None:
    with serving(counter(tmp_path / "model"), tmp_path / "log", deadline_s=1.0, inline_ms=10) as running:
        for _ in range(20):
            assert running.infer(turns(1))[0] == 200
        assert running.infer(turns(ENDLESS))[0] == 504
        assert running.infer(turns(1))[0] == 200


def test_more_than_may_wait_are_told_to_come_again(counting: ModelServer) -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(counting.infer(turns(ENDLESS))[0])) for _ in range(2)
    ]
    for each in threads:
        each.start()
    until(lambda: counting.value("catchment_serving_in_flight") == 2)
    status, _, headers = counting.ask("POST", "/v2/models/m/infer", json.dumps(turns(1)).encode())
    assert (status, headers["retry-after"]) == (503, "1")
    with pytest.raises(grpc.RpcError) as raised:
        call(counting, "ModelInfer", model_name="m")
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert counting.ask("GET", "/v2/health/live")[0] == 200
    assert call(counting, "ServerLive").live
    for each in threads:
        each.join(60)
    assert answers == [504, 504]
    until(lambda: counting.value("catchment_serving_in_flight") == 0)
    assert counting.infer(turns(1))[0] == 200


def test_what_is_in_flight_at_sigterm_is_answered(tmp_path: Path) -> None:
    with serving(counter(tmp_path / "model"), tmp_path / "log", concurrency=2) as running:
        answers: list[Any] = []

        def over_grpc() -> None:
            tensor = CLASSES["ModelInferRequest.InferInputTensor"](name="turns", datatype="INT64", shape=[1])
            raw = [np.array([SOME], "<i8").tobytes()]
            reply = call(running, "ModelInfer", 60, model_name="m", inputs=[tensor], raw_input_contents=raw)
            answers.append(np.frombuffer(reply.raw_output_contents[0], "<i8").tolist())

        def over_rest() -> None:
            answers.append(running.infer(turns(SOME))[1]["outputs"][0]["data"])

        threads = [threading.Thread(target=each) for each in (over_rest, over_rest, over_grpc)]
        for each in threads:
            each.start()
        until(lambda: running.value("catchment_serving_in_flight") == 3)
        running.process.send_signal(signal.SIGTERM)
        for each in threads:
            each.join(60)
        assert running.process.wait(20) == 0
        assert answers == [[SOME]] * 3


def test_under_load_a_stop_loses_no_request(tmp_path: Path) -> None:
    with serving(linear(tmp_path / "model"), tmp_path / "log") as running:
        answered, told, lost = [0] * 16, [], []

        def ask(number: int) -> None:
            body = json.dumps(linear_request())
            connection = http.client.HTTPConnection("127.0.0.1", running.http, timeout=30)
            while True:
                try:
                    connection.request("POST", "/v2/models/m/infer", body)
                    answer = connection.getresponse()
                    answer.read()
                except (ConnectionError, http.client.HTTPException) as error:
                    lost.append(repr(error))
                    return
                if answer.status == 200:
                    answered[number] += 1
                else:  # whoever is told to leave does: another connection could meet the closing port
                    told.append((answer.status, answer.headers["connection"]))
                    return

        threads = [threading.Thread(target=ask, args=(each,)) for each in range(16)]
        for each in threads:
            each.start()
        until(lambda: all(each > 3 for each in answered))
        running.process.send_signal(signal.SIGTERM)
        for each in threads:
            each.join(60)
        assert running.process.wait(20) == 0
        assert lost == []
        assert told == [(503, "close")] * 16


def test_under_load_a_stop_refuses_calls_cleanly(tmp_path: Path) -> None:
    with serving(counter(tmp_path / "model"), tmp_path / "log") as running:
        tensor = CLASSES["ModelInferRequest.InferInputTensor"](name="turns", datatype="INT64", shape=[1])
        raw = [np.array([100], "<i8").tobytes()]
        request = CLASSES["ModelInferRequest"](model_name="m", inputs=[tensor], raw_input_contents=raw)
        answered, refused = [0] * 16, []

        def ask(number: int) -> None:
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
            with grpc.insecure_channel(f"127.0.0.1:{running.grpc}", options=options) as channel:
                infer = channel.unary_unary(
                    f"/{SERVICE}/ModelInfer", CLASSES["ModelInferRequest"].SerializeToString
                )
                while True:
                    try:
                        infer(request, timeout=30)
                    except grpc.RpcError as error:
                        refused.append(error.code())  # type: ignore[attr-defined]
                        return
                    answered[number] += 1

        threads = [threading.Thread(target=ask, args=(each,)) for each in range(16)]
        for each in threads:
            each.start()
        until(lambda: all(each > 3 for each in answered))
        running.process.send_signal(signal.SIGTERM)
        for each in threads:
            each.join(60)
        assert running.process.wait(20) == 0
        assert refused == [grpc.StatusCode.UNAVAILABLE] * 16


def test_what_does_not_end_is_cut_off(tmp_path: Path) -> None:
    with serving(counter(tmp_path / "model"), tmp_path / "log", drain_s=0.3) as running:
        lost: list[str] = []

        def ask() -> None:
            try:
                running.infer(turns(ENDLESS))
            except (ConnectionError, http.client.HTTPException) as error:
                lost.append(type(error).__name__)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: running.value("catchment_serving_running") == 1)
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 4
        assert time.monotonic() - began < 10
        asking.join(30)
        assert len(lost) == 1
        assert "cut off" in running.lines()[-1]["message"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_after_a_crash_the_same_ports_serve_again(number: signal.Signals, tmp_path: Path) -> None:
    folder = linear(tmp_path / "model")
    with serving(folder, tmp_path / "log") as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.http, timeout=30)
        connection.request("GET", "/v2/health/live")
        connection.getresponse().read()
        running.process.send_signal(number)
        assert running.process.wait(20) == -number
        again = start(folder, tmp_path / "log2", running.http, running.grpc)
        try:
            until(lambda: _answers(running))
            assert call(running, "ServerReady").ready
        finally:
            again.kill()
            again.wait(10)
            connection.close()
    if number == signal.SIGSEGV:
        assert "Segmentation fault" in (tmp_path / "log").read_text()


def _answers(server: ModelServer) -> bool:
    try:
        return server.ask("GET", "/v2/health/ready")[0] == 200
    except OSError:
        return False


def test_a_model_that_cannot_be_loaded_ends_the_process_with_a_reason(tmp_path: Path) -> None:
    process = start(tmp_path / "absent", tmp_path / "log")
    assert process.wait(60) == 3
    line = json.loads((tmp_path / "log").read_text().splitlines()[0])
    assert (line["level"], line["model"], line["version"]) == ("error", "m", "1")
    assert "is no folder" in line["message"]


def test_a_port_that_is_taken_ends_the_process_with_a_reason(tmp_path: Path) -> None:
    folder = linear(tmp_path / "model")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for ports in ((port, 0), (0, port)):
            process = start(folder, tmp_path / "log", *ports)
            assert process.wait(60) == 2
            assert f"port {port}" in (tmp_path / "log").read_text()


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    process = start(linear(tmp_path / "model"), tmp_path / "log", free_port(), free_port(), queue=-1)
    assert process.wait(60) == 2
    assert "queue" in (tmp_path / "log").read_text()
