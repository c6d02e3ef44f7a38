"""Bodies, heads and connections through the gateway: nothing is held, mixed up, or wrongly passed on."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from catchment.store import Store
from catchment.tls.contexts import client_context
from tests.api.gateway.calls import (
    BASE,
    INFER,
    ONE,
    ask,
    ask_in_chunks,
    binary,
    listener,
    peak_mib,
    send_raw,
)
from tests.api.serving import ApiProcess, api_process
from tests.api.serving_rows import add_endpoint, add_serving, figures
from tests.certificates import authority
from tests.conftest import free_port, wait_until
from tests.model_servers import ModelServer, identity, serving


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
    assert reply.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert reply.count(b"HTTP/1.") == 1
    assert model.value(series) == before


def test_a_body_with_both_lengths_is_one_request(running: ApiProcess, uid: str, model: ModelServer) -> None:
    wait_until(lambda: ask(running, "GET", BASE)[0] == 200, timeout_s=10, what="the serving")
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(ONE), ONE)
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    reply = send_raw(running, head % INFER.encode() + body)
    assert reply.count(b"HTTP/1.") == 1
    assert reply.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))


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


@contextmanager
def behind(store: Store, answer: bytes) -> Iterator[tuple[str, str]]:
    """A serving whose only server answers so: its uid, and where its model is asked."""
    with listener(answer) as (port, _):
        name = f"m{port}"
        uid = add_serving(store, name, {"a-r1": 100})
        add_endpoint(store, uid, "a-r1", port)
        yield uid, f"/serving/default/{name}/v2/models/{name}/infer"


def test_replies_that_are_no_http_are_not_passed_on(running: ApiProcess, store: Store) -> None:
    for answer in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"nonsense\r\n\r\n",
    ):
        with behind(store, answer) as (uid, path):
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
        with behind(store, answer) as (_, path):
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
