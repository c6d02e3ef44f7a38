"""The gateway of a real API process before real model servers."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper

from catchment.access import create_token
from catchment.serving.figures import Figures
from catchment.settings import Settings
from catchment.stack.postgres import EmbeddedPostgres
from catchment.store import Store, migrate, open_store
from catchment.tls.contexts import client_context
from tests.api.serving import ApiProcess, api_process
from tests.api.serving_rows import add_endpoint, add_serving, add_workload, drop_endpoints, figures, route
from tests.certificates import authority
from tests.conftest import free_port, wait_until
from tests.model_servers import ModelServer, identity, save, serving

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


def ask_in_chunks(
    api: ApiProcess, path: str, body: bytes, headers: Mapping[str, str]
) -> tuple[int, Any, http.client.HTTPMessage]:
    """The body in pieces of a megabyte, its length unsaid."""
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=60)
    try:
        pieces = (body[at : at + (1 << 20)] for at in range(0, len(body), 1 << 20))
        connection.request("POST", path, pieces, dict(headers), encode_chunked=True)
        answer = connection.getresponse()
        raw = answer.read()
        is_json = answer.headers.get("content-type") == "application/json"
        return answer.status, json.loads(raw) if is_json else raw, answer.headers
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


def test_what_the_protocol_has_not_for_inference_stays_outside(running: ApiProcess, uid: str) -> None:
    assert ask(running, "POST", f"{BASE}/repository/models/m/unload", b"{}")[0] == 404
    assert ask(running, "GET", f"{BASE}/models/other")[0] == 404
    assert ask(running, "GET", "/serving/default/m/metrics")[0] == 404
    assert ask(running, "GET", "/serving/other/m/v2")[0] == 404
    status, reply, headers = ask(running, "GET", INFER)
    assert (status, headers["allow"]) == (405, "POST")
    assert reply == {"error": "method: GET is not possible here, only POST"}
    status, reply, _ = ask(running, "POST", "/serving/default/nobody/v2/models/nobody/infer", ONE)
    assert (status, reply) == (404, {"error": "there is no serving 'nobody' in namespace 'default'"})
    # Errors of the model server come through as they are.
    status, reply, _ = ask(running, "POST", INFER, b'{"inputs": 1}')
    assert (status, reply) == (400, {"error": "inputs: must be a list"})


def test_a_serving_that_cannot_answer_says_why_and_when_to_come_back(
    running: ApiProcess, store: Store
) -> None:
    uid = add_serving(store, "m", {}, state="Creating", message="waits for approval")
    status, reply, headers = ask(running, "POST", INFER, ONE)
    assert (status, headers["retry-after"]) == (503, "1")
    assert reply == {"error": "serving default/m takes no traffic: it is Creating; waits for approval"}
    route(store, uid, {"m-default-r1": 100})
    add_endpoint(store, uid, "m-default-r1", 1, state="starting", message="loads its model")
    wait_until(
        lambda: "m-default-r1: starting loads its model" in ask(running, "POST", INFER, ONE)[1]["error"],
        timeout_s=10,
        what="the gateway to hear of it",
    )


def test_traffic_is_split_by_weight_and_follows_changes(
    running: ApiProcess, store: Store, model: ModelServer, tmp_path: Path
) -> None:
    with serving(identity(tmp_path / "other", "FP32"), tmp_path / "other.log") as other:
        uid = add_serving(store, "m", {"m-default-r1": 80, "m-default-r2": 20})
        for revision, server in ((1, model), (2, other)):
            add_workload(store, uid, f"m-default-r{revision}", revision=revision)
            add_endpoint(store, uid, f"m-default-r{revision}", server.http)
        connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=30)

        def answered_by(count: int) -> list[str]:
            found = []
            for _ in range(count):
                connection.request("POST", INFER, ONE)
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                answer.read()
                found.append(str(answer.headers["catchment-workload"]))
            return found

        wait_until(lambda: "m-default-r2" in answered_by(10), timeout_s=20, what="both versions to answer")
        canary = answered_by(1000).count("m-default-r2")
        assert 135 <= canary <= 265  # five standard deviations of 1000 draws
        route(store, uid, {"m-default-r2": 100})
        wait_until(
            lambda: set(answered_by(20)) == {"m-default-r2"}, timeout_s=10, what="the traffic to be shifted"
        )
        connection.close()

        def compared() -> bool:
            seen = figures(store, uid).get("m-default-r2")
            return seen is not None and seen.compared > 50 and seen.disagreed == 0

        wait_until(compared, timeout_s=10, what="versions to be compared")
        wait_until(
            lambda: sum(each.requests for each in figures(store, uid).values()) >= 1030,
            timeout_s=10,
            what="the figures of all requests",
        )


def test_versions_that_answer_otherwise_are_counted(
    running: ApiProcess, store: Store, model: ModelServer, tmp_path: Path
) -> None:
    with serving(negation(tmp_path / "other"), tmp_path / "other.log") as other:
        uid = add_serving(store, "m", {"m-default-r1": 100}, rolling=2)  # the canary takes no traffic yet
        for revision, server in ((1, model), (2, other)):
            add_workload(store, uid, f"m-default-r{revision}", revision=revision)
            add_endpoint(store, uid, f"m-default-r{revision}", server.http)
        both = json.dumps({**tensor([[1.0, 2.0]]), "parameters": {"binary_data_output": True}}).encode()

        def disagreed() -> bool:
            for body in (ONE, both):
                status, _, headers = ask(running, "POST", INFER, body)
                assert (status, headers["catchment-workload"]) == (200, "m-default-r1")
            seen = figures(store, uid).get("m-default-r2")
            return seen is not None and seen.disagreed >= 3 and seen.disagreed == seen.compared

        wait_until(disagreed, timeout_s=30, what="the versions' disagreement")
        assert figures(store, uid)["m-default-r2"].requests == 0


def test_large_bodies_are_streamed_both_ways(home: Path, store: Store, tmp_path: Path) -> None:
    folder = identity(tmp_path / "model", "FP32", ("n", 1024))
    bounds = {"max_request_bytes": 256 << 20}
    with (
        serving(folder, tmp_path / "model.log", **bounds) as server,
        api_process(home, free_port()) as running,
    ):
        uid = add_serving(store, "m", {"m-default-r1": 100})
        add_endpoint(store, uid, "m-default-r1", server.http)
        wait_until(lambda: ask(running, "GET", BASE)[0] == 200, timeout_s=10, what="the serving")
        data = np.arange(25600 * 1024, dtype=np.float32)
        body, headers = binary(data.reshape(25600, 1024))
        before = peak_mib(running)
        status, reply, answered = ask(running, "POST", INFER, body, headers)
        assert status == 200
        assert reply[int(answered["inference-header-content-length"]) :] == data.tobytes()
        assert peak_mib(running) - before < 32
        # In chunks: nobody says beforehand how much it is.
        status, reply, answered = ask_in_chunks(running, INFER, body, headers)
        assert status == 200
        assert reply[int(answered["inference-header-content-length"]) :] == data.tobytes()
        assert peak_mib(running) - before < 32


def test_what_is_too_large_is_refused_with_a_reason(home: Path, store: Store, model: ModelServer) -> None:
    uid = add_serving(store, "m", {"m-default-r1": 100})
    add_endpoint(store, uid, "m-default-r1", model.http)
    with api_process(home, free_port(), CATCHMENT_GATEWAY_MAX_REQUEST_BYTES=str(3 << 20)) as running:
        small, large = bytes(2 << 20), bytes(4 << 20)
        # The model server's own answer to a body that is no request: it went through.
        assert ask(running, "POST", INFER, small)[0] == 400
        expected = {"error": f"the request has more than {3 << 20} bytes, which is the most that is taken"}
        assert ask(running, "POST", INFER, large)[:2] == (413, expected)
        assert ask_in_chunks(running, INFER, large, {})[:2] == (413, expected)
        # Who asks before sending hears at once.
        head = (
            b"POST %b HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
        )
        assert send_raw(running, head % INFER.encode()).startswith(b"HTTP/1.1 413")


def test_killed_servers_lose_no_request_while_there_is_another(
    running: ApiProcess, store: Store, model: ModelServer, tmp_path: Path
) -> None:
    with serving(identity(tmp_path / "other", "FP32"), tmp_path / "other.log") as other:
        uid = add_serving(store, "m", {"m-default-r1": 100})
        for replica, server in enumerate((model, other)):
            add_endpoint(store, uid, "m-default-r1", server.http, replica=replica)
        wait_until(lambda: ask(running, "GET", BASE)[0] == 200, timeout_s=10, what="the serving")
        with under_load(running) as seen:
            wait_until(lambda: len(seen) > 500, timeout_s=60, what="some answers")
            model.process.kill()
            count = len(seen)
            wait_until(lambda: len(seen) > count + 500, timeout_s=60, what="more answers")
        assert set(seen) == {200}


def test_a_switch_of_versions_under_load_fails_no_request(
    running: ApiProcess, store: Store, model: ModelServer, tmp_path: Path
) -> None:
    with serving(identity(tmp_path / "other", "FP32"), tmp_path / "other.log") as other:
        uid = add_serving(store, "m", {"m-default-r1": 100})
        add_endpoint(store, uid, "m-default-r1", model.http)
        add_endpoint(store, uid, "m-default-r2", other.http)
        wait_until(lambda: ask(running, "GET", BASE)[0] == 200, timeout_s=10, what="the serving")
        with under_load(running) as seen:
            wait_until(lambda: len(seen) > 300, timeout_s=60, what="some answers")
            # Worse than any rollout does it: the server is told to stop before anybody was told so.
            model.process.terminate()
            route(store, uid, {"m-default-r2": 100})
            count = len(seen)
            wait_until(lambda: len(seen) > count + 500, timeout_s=60, what="more answers")
            assert model.process.wait(20) == 0
            drop_endpoints(store, uid, "m-default-r1")
        assert set(seen) == {200}
        found = wait_until(lambda: figures(store, uid).get("m-default-r2"), timeout_s=10, what="figures")
        assert isinstance(found, Figures)
        assert found.errors == 0


def test_a_model_that_ends_its_server_costs_one_answer_and_an_error(
    running: ApiProcess, store: Store, model: ModelServer
) -> None:
    uid = add_serving(store, "m", {"m-default-r1": 100})
    add_endpoint(store, uid, "m-default-r1", model.http)
    wait_until(lambda: ask(running, "POST", INFER, ONE)[0] == 200, timeout_s=10, what="the serving")
    model.process.kill()
    model.process.wait(10)
    status, reply, headers = ask(running, "POST", INFER, ONE)
    assert (status, headers["retry-after"]) == (503, "1")
    assert reply == {"error": "no model server of serving default/m answers just now"}


def test_who_may_ask_is_who_may_use_the_api(home: Path, store: Store, model: ModelServer) -> None:
    uid = add_serving(store, "m", {"m-default-r1": 100})
    add_endpoint(store, uid, "m-default-r1", model.http)
    admin, site = create_token(store, "admin"), create_token(store, "site", site="hospital-1")
    user = create_token(store, "user")
    with api_process(home, free_port(), CATCHMENT_AUTH="tokens") as running:
        for token, expected in ((admin, 200), (user, 200), (site, 403), ("catchment_0_x", 401)):
            headers = {"Authorization": f"Bearer {token}"}
            assert ask(running, "POST", INFER, ONE, headers)[0] == expected
        status, reply, headers_back = ask(running, "POST", INFER, ONE)
        assert (status, headers_back["www-authenticate"]) == (401, "Bearer")
        assert "bearer token is required" in reply["error"]


def test_without_a_login_only_this_machines_names_count(running: ApiProcess, uid: str) -> None:
    assert ask(running, "POST", INFER, ONE, {"Origin": "http://localhost:3000"})[0] == 200
    assert ask(running, "POST", INFER, ONE, {"Origin": "http://evil.example"})[0] == 403
    raw = send_raw(running, b"GET /serving/default/m/v2 HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: -1",
        b"Content-Length: 5, 6",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: xchunked",
    ],
)
def test_a_body_of_two_lengths_never_reaches_a_server(
    running: ApiProcess, uid: str, model: ModelServer, head: bytes
) -> None:
    wait_until(lambda: ask(running, "GET", BASE)[0] == 200, timeout_s=10, what="the serving")
    series = "catchment_serving_requests_total"
    before = model.value(series)
    smuggled = b"0\r\n\r\nGET /serving/default/m/v2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    reply = send_raw(
        running, b"POST %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n%b" % (INFER.encode(), head, smuggled)
    )
    assert reply == b"" or reply.startswith(b"HTTP/1.1 400")
    assert reply.count(b"HTTP/1.1 ") <= 1
    assert model.value(series) == before


def test_a_body_with_both_lengths_is_one_request(running: ApiProcess, uid: str, model: ModelServer) -> None:
    wait_until(lambda: ask(running, "GET", BASE)[0] == 200, timeout_s=10, what="the serving")
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(ONE), ONE)
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    reply = send_raw(running, head % INFER.encode() + body)
    assert reply.count(b"HTTP/1.1 ") == 1
    assert reply.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400"))


def test_logins_and_hop_by_hop_headers_stay_here(running: ApiProcess, store: Store) -> None:
    with listener() as (port, heads):
        uid = add_serving(store, "m", {"m-default-r1": 100})
        add_endpoint(store, uid, "m-default-r1", port)
        wait_until(lambda: ask(running, "GET", BASE)[0] == 200, timeout_s=10, what="the serving")
        headers = {
            "Authorization": "Bearer secret",
            "Cookie": "secret",
            "Connection": "close, X-Mine",
            "X-Mine": "secret",
            "X-Other": "kept",
            "traceparent": "00-1",
        }
        assert ask(running, "POST", f"{INFER}?a=b%20c", ONE, headers)[0] == 200
    head = heads[-1].decode()
    assert head.startswith("POST /v2/models/m/infer?a=b%20c HTTP/1.1\r\n")
    assert "secret" not in head
    assert "x-other: kept" in head
    assert "traceparent: 00-1" in head
    assert head.lower().count("content-length") == 1
    assert f"host: 127.0.0.1:{port}" in head


def test_a_server_that_hangs_is_given_up(home: Path, store: Store) -> None:
    with (
        listener(answer=None) as (port, heads),
        api_process(home, free_port(), CATCHMENT_GATEWAY_TIMEOUT_S="1") as running,
    ):
        uid = add_serving(store, "m", {"m-default-r1": 100})
        add_endpoint(store, uid, "m-default-r1", port)
        wait_until(lambda: ask(running, "POST", INFER, ONE)[0] == 504, timeout_s=20, what="a deadline")
        seen = wait_until(lambda: figures(store, uid), timeout_s=10, what="figures")
        assert isinstance(seen, dict)
        assert seen["m-default-r1"].errors >= 1
        assert heads


def test_a_client_that_goes_away_frees_the_server(running: ApiProcess, store: Store) -> None:
    with listener(answer=None) as (port, heads):
        uid = add_serving(store, "m", {"m-default-r1": 100})
        add_endpoint(store, uid, "m-default-r1", port)
        host, api_port = running.url.removeprefix("http://").split(":")
        request = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
        wait_until(
            lambda: ask(running, "GET", "/serving/default/m/nothing")[0] == 404, timeout_s=5, what="it"
        )
        with socket.create_connection((host, int(api_port)), timeout=20) as client:
            client.sendall(request % (INFER.encode(), len(ONE), ONE))
            wait_until(lambda: heads, timeout_s=10, what="the request to arrive")
        wait_until(lambda: heads[-1] == b"closed", timeout_s=10, what="the request to be given up")


def test_a_slow_client_holds_no_server(running: ApiProcess, uid: str, model: ModelServer) -> None:
    wait_until(lambda: ask(running, "GET", BASE)[0] == 200, timeout_s=10, what="the serving")
    host, port = running.url.removeprefix("http://").split(":")
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), len(ONE))
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(head + ONE[:10])
        for _ in range(3):  # others are answered meanwhile, and the server does not know of this one
            assert ask(running, "POST", INFER, ONE)[0] == 200
        assert model.value("catchment_serving_in_flight") == 0
        client.sendall(ONE[10:])
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_replies_that_are_no_http_are_not_passed_on(running: ApiProcess, store: Store) -> None:
    for answer in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"nonsense\r\n\r\n",
    ):
        with listener(answer) as (port, _):
            name = f"m{port}"
            uid = add_serving(store, name, {"a-r1": 100})
            add_endpoint(store, uid, "a-r1", port)
            path = f"/serving/default/{name}/v2/models/{name}/infer"
            assert ask(running, "POST", path, ONE)[0] == 502
            wait_until(
                lambda uid=uid: [each for each in figures(store, uid).values() if each.errors],
                timeout_s=10,
                what="an error",
            )


def test_replies_of_unknown_length_are_passed_on(running: ApiProcess, store: Store) -> None:
    for answer in (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nabcde",
    ):
        with listener(answer) as (port, _):
            name = f"m{port}"
            uid = add_serving(store, name, {"a-r1": 100})
            add_endpoint(store, uid, "a-r1", port)
            path = f"/serving/default/{name}/v2/models/{name}/infer"
            assert ask(running, "POST", path, ONE)[:2] == (200, b"abcde")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + bytes(500_000),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
)
def test_a_reply_that_stops_half_way_is_not_taken_for_a_whole_one(
    running: ApiProcess, store: Store, answer: bytes
) -> None:
    with listener(answer) as (port, _):
        uid = add_serving(store, "m", {"a-r1": 100})
        add_endpoint(store, uid, "a-r1", port)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            ask(running, "POST", INFER, ONE)


def test_a_client_that_reads_slowly_fills_no_memory(home: Path, store: Store) -> None:
    body = bytes(64 << 20)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with listener(answer) as (port, _), api_process(home, free_port()) as running:
        uid = add_serving(store, "m", {"a-r1": 100})
        add_endpoint(store, uid, "a-r1", port)
        ask(running, "GET", "/serving/default/m/nothing")
        before = peak_mib(running)
        host, api_port = running.url.removeprefix("http://").split(":")
        request = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
        with socket.create_connection((host, int(api_port)), timeout=20) as client:
            client.sendall(request % (INFER.encode(), len(ONE), ONE))
            received = len(client.recv(1 << 16))
            with httpx.Client(base_url=running.url, timeout=20) as others:
                for _ in range(20):  # time in which the reply could pile up
                    assert others.get("/api/v1/health").status_code == 200
            while received < len(body):
                part = client.recv(1 << 20)
                assert part
                received += len(part)
        assert peak_mib(running) - before < 24


def test_it_works_behind_tls(home: Path, store: Store, model: ModelServer, tmp_path: Path) -> None:
    tls = authority(tmp_path / "tls")
    uid = add_serving(store, "m", {"m-default-r1": 100})
    add_endpoint(store, uid, "m-default-r1", model.http)
    values = np.arange(2 << 20, dtype=np.float32).reshape(-1, 2)
    body, headers = binary(values)
    with (
        api_process(home, free_port(), tls=tls) as running,
        httpx.Client(base_url=running.url, verify=client_context(tls.ca.certificate), timeout=30) as client,
    ):
        for _ in range(3):
            assert client.post(INFER, content=ONE).json()["outputs"][0]["data"] == [1.0, 2.0]
            answer = client.post(INFER, content=body, headers=headers)
            assert answer.status_code == 200
            length = int(answer.headers["inference-header-content-length"])
            assert answer.content[length:] == values.tobytes()
        assert client.get("/serving/default/nobody/v2").status_code == 404


def test_a_large_body_goes_to_another_server_when_one_is_stopping(
    running: ApiProcess, store: Store, model: ModelServer
) -> None:
    said = b'{"error":"the server is stopping"}'
    stopping = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said)
    values = np.ones((1 << 18, 2), np.float32)
    body, headers = binary(values)
    with listener(stopping) as (port, heads):
        uid = add_serving(store, "m", {"m-default-r1": 100})
        add_endpoint(store, uid, "m-default-r1", port, replica=0)
        add_endpoint(store, uid, "m-default-r1", model.http, replica=1)
        wait_until(lambda: ask(running, "GET", BASE)[0] == 200, timeout_s=10, what="the serving")

        def both_were_asked() -> bool:
            status, reply, _ = ask(running, "POST", INFER, body, headers)
            assert status == 200
            assert reply.endswith(values.tobytes())
            return any(b"POST" in each for each in heads)

        wait_until(both_were_asked, timeout_s=60, what="the stopping server to be drawn")
    assert all(len(each) < 4096 for each in heads)  # it was asked, and got no body


def test_servings_go_on_without_the_store(home: Path, model: ModelServer, tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres", durable=False) as server:
        settings = Settings(home=home, database_url=server.create_database("catchment"))
        migrate(settings)
        store = open_store(settings)
        uid = add_serving(store, "m", {"m-default-r1": 100})
        add_endpoint(store, uid, "m-default-r1", model.http)
        store.close()
        port, url = free_port(), str(settings.database_url)
        with ExitStack() as ends:
            running = ends.enter_context(api_process(home, port, CATCHMENT_DATABASE_URL=url))
            wait_until(lambda: ask(running, "POST", INFER, ONE)[0] == 200, timeout_s=10, what="the serving")
            api = ends.pop_all()
    with api:
        for _ in range(3):
            assert ask(running, "POST", INFER, ONE)[0] == 200
