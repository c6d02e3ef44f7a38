"""Large bodies, plain and behind TLS: every byte once, in order, and the connection can be used again."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import socket
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPResponse
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from starlette.types import Message, Receive, Scope, Send

from api import lane
from api.lane import BLOCK_BYTES, WAITING, Lane
from api.server import LANE_BYTES, Server
from catchment.tls.authority import Authority
from catchment.tls.contexts import client_context, server_context
from tests.certificates import authority
from tests.conftest import free_port, wait_until

DATA = random.Random(7).randbytes(6 * BLOCK_BYTES + 4321)
SIZES = [
    *(0, 1, LANE_BYTES - 1, LANE_BYTES, LANE_BYTES + 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1),
    *(2 * BLOCK_BYTES, len(DATA)),
]


class Digests:
    """Answers with the SHA-256 of what arrived; `/some` after its first part, `/none` before."""

    def __init__(self) -> None:
        self.arrived = bytearray()
        self.parts: list[type] = []
        self.lost = False
        self.slow_s = 0.0

    def has(self, count: int) -> bool:
        """Whether so many bytes of the request have arrived."""
        return len(self.arrived) == count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.arrived.clear()
        more = scope["path"] != "/none"
        while more:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                self.lost = True
                return
            self.arrived += message["body"]
            self.parts.append(type(message["body"]))
            await asyncio.sleep(self.slow_s)
            more = message["more_body"] and scope["path"] != "/some"
        body = hashlib.sha256(self.arrived).hexdigest().encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("lane") / "tls")


@pytest.fixture
def app() -> Digests:
    return Digests()


@pytest.fixture(params=["plain", "tls"])
def connect(
    request: pytest.FixtureRequest, tls: Authority, app: Digests
) -> Iterator[Callable[[], socket.socket]]:
    """Opens connections to a server of its own."""
    port = free_port()
    secured = request.param == "tls"
    server = Server(app, server_context(tls.server.certificate, tls.server.key) if secured else None)
    context = client_context(Path(tls.ca.certificate))
    opened: list[socket.socket] = []

    def connection() -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", port), timeout=20)
        opened.append(context.wrap_socket(plain, server_hostname="127.0.0.1") if secured else plain)
        return opened[-1]

    with start_blocking_portal() as portal:
        portal.call(server.start, "127.0.0.1", port)
        try:
            yield connection
        finally:
            for each in opened:
                each.close()
            portal.call(server.stop, 2.0)


def head(size: int, path: str = "/", *more: str) -> bytes:
    lines = [f"PUT {path} HTTP/1.1", "Host: localhost", f"Content-Length: {size}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(connection: socket.socket) -> str:
    response = HTTPResponse(connection)
    response.begin()
    assert response.status == 200
    return response.read().decode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_bodies_of_every_size_arrive_one_after_the_other(connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    for size in [*SIZES, *reversed(SIZES)]:
        connection.sendall(head(size))
        connection.sendall(DATA[:size])
        assert answer(connection) == digest(DATA[:size])


def test_a_large_body_takes_the_lane_and_a_small_one_does_not(
    connect: Callable[[], socket.socket], app: Digests
) -> None:
    connection = connect()
    for size, kind in ((BLOCK_BYTES * 2, bytearray), (LANE_BYTES - 1, bytes)):
        app.parts.clear()
        connection.sendall(head(size) + DATA[:size])
        assert answer(connection) == digest(DATA[:size])
        assert (kind in app.parts, bytearray in app.parts) == (True, kind is bytearray)


def test_requests_that_come_in_one_piece_are_kept_apart(connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.sendall(b"".join(head(size) + DATA[:size] for size in SIZES))
    with connection.makefile("rb") as replies:  # one: what it has read ahead belongs to the next reply
        for size in SIZES:
            assert replies.readline() == b"HTTP/1.1 200 OK\r\n"
            fields = dict(line.rstrip().split(b": ") for line in iter(replies.readline, b"\r\n"))
            assert replies.read(int(fields[b"content-length"])).decode() == digest(DATA[:size])


def test_the_client_waits_while_the_application_is_slow(
    connect: Callable[[], socket.socket], app: Digests
) -> None:
    app.slow_s = 0.02
    connection = connect()
    connection.sendall(head(len(DATA)) + DATA)
    assert answer(connection) == digest(DATA)


def test_a_client_is_invited_before_it_sends(connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.sendall(head(len(DATA), "/", "Expect: 100-continue"))
    assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(DATA)
    assert answer(connection) == digest(DATA)


@pytest.mark.parametrize("path", ["/some", "/none"])
def test_a_body_that_nobody_wants_is_read_and_the_connection_goes_on(
    connect: Callable[[], socket.socket], path: str
) -> None:
    connection = connect()
    for _ in range(2):
        connection.sendall(head(len(DATA), path) + DATA)
        answer(connection)
    connection.sendall(head(len(DATA)) + DATA)
    assert answer(connection) == digest(DATA)


def test_a_body_in_chunks_goes_through_the_parser(connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.sendall(b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(DATA), 100_000):
        piece = DATA[start : start + 100_000]
        connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
    connection.sendall(b"0\r\n\r\n")
    assert answer(connection) == digest(DATA)


@pytest.mark.parametrize("size", [LANE_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 17])
def test_what_came_before_a_connection_broke_counts(
    connect: Callable[[], socket.socket], app: Digests, size: int
) -> None:
    connection = connect()
    connection.sendall(head(len(DATA)) + DATA[:size])
    connection.close()
    wait_until(lambda: app.lost, timeout_s=10, what="the news that the client has gone")
    assert app.arrived == DATA[:size]


def test_a_slow_client_is_seen_to_send(
    connect: Callable[[], socket.socket], app: Digests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "PATIENCE_S", 0.01)
    connection = connect()
    connection.sendall(head(len(DATA)))
    for start, stop in ((0, 1000), (1000, 5000), (5000, 5001)):
        connection.sendall(DATA[start:stop])
        wait_until(partial(app.has, stop), timeout_s=10, what="what was sent")
    connection.sendall(DATA[5001:])
    assert answer(connection) == digest(DATA)


def test_reading_pauses_when_blocks_wait_and_goes_on_when_one_is_taken() -> None:
    said: list[str] = []

    def word(text: str) -> Callable[[], None]:
        return lambda: said.append(text)

    async def scene() -> bytes:
        way = Lane(4 * BLOCK_BYTES, word("pause"), word("resume"), word("leave"))
        for _ in range(WAITING):
            way.room()[:] = os.urandom(BLOCK_BYTES)
            way.take(BLOCK_BYTES)
        assert said == ["pause"]
        await way.next()
        assert said == ["pause", "resume"]
        way.room()[:5] = b"early"
        way.take(5)
        way.break_off()
        await way.next()
        last = await way.next()
        assert await way.next() is None
        return bytes(last or b"")

    assert asyncio.run(scene()) == b"early"
