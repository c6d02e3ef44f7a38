"""The server around a small application: what it says itself, and its certificate as clients see it."""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from cryptography import x509
from starlette.types import ASGIApp, Receive, Scope, Send

from api import server
from api.server import Server
from catchment.client import Client
from catchment.errors import Unreachable
from catchment.site.exchange import Exchange
from catchment.site.http import Endpoint
from catchment.tls.authority import Authority, Pair
from catchment.tls.contexts import client_context, server_context
from catchment.wire.messages import Registration
from tests.api.orders import REGISTRATION
from tests.certificates import DAY, Made, authority, sign
from tests.conftest import free_port


async def health(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers everything with "OK"."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"4")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'"OK"'})


@contextmanager
def serving(pair: Pair | None, app: ASGIApp = health) -> Iterator[str]:
    """Its address."""
    port = free_port()
    made = Server(app, server_context(pair.certificate, pair.key) if pair else None)
    with start_blocking_portal() as portal:
        portal.call(made.start, "127.0.0.1", port)
        try:
            yield f"{'https' if pair else 'http'}://127.0.0.1:{port}"
        finally:
            portal.call(made.stop, 2.0)


@pytest.fixture
def tls(tmp_path: Path) -> Authority:
    return authority(tmp_path / "tls")


HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def expired(tls: Authority) -> Made:
    return sign(tls.ca, "localhost", HERE, lasts=-DAY / 2)


def elsewhere(tls: Authority) -> Made:
    return sign(tls.ca, "elsewhere", x509.DNSName("elsewhere.example"))


def foreign(tls: Authority) -> Made:
    return sign(authority(tls.folder / "foreign").ca, "localhost", HERE)


def not_yet(tls: Authority) -> Made:
    return sign(tls.ca, "localhost", HERE, begins=DAY / 2)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (expired, "certificate has expired"),
        (not_yet, "not yet valid"),
        (elsewhere, "is not valid for"),
        (foreign, "unable to get"),
    ],
)
def test_clients_refuse_a_server_that_is_not_who_it_should_be(
    tls: Authority, tmp_path: Path, make: object, sentence: str
) -> None:
    assert callable(make)
    with serving(make(tls).write(tmp_path, "server")) as url:
        endpoint = Endpoint(url, tls=client_context(tls.ca.certificate))
        with Exchange(endpoint, "site-1") as exchange, pytest.raises(Unreachable, match=sentence):
            exchange.register(Registration.model_validate(REGISTRATION))
        with Client(url, ca_file=tls.ca.certificate) as client:
            with pytest.raises(Unreachable, match=f"not who it says it is.*{sentence}.*--ca-file"):
                client.list_sites()
            assert not client.healthy()


def test_clients_accept_the_server_that_it_is(tls: Authority) -> None:
    with serving(tls.server) as url, Client(url, ca_file=tls.ca.certificate) as client:
        assert client.healthy()
        assert client.healthy()


def test_old_versions_of_tls_are_not_spoken(tls: Authority) -> None:
    context = server_context(tls.server.certificate, tls.server.key, tls.ca.certificate)
    assert context.minimum_version.name == "TLSv1_2"
    assert client_context().minimum_version.name == "TLSv1_2"


def sent(url: str, data: bytes) -> bytes:
    """All that the server answers until it closes the connection."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_what_is_no_http_is_refused_in_a_sentence_that_repeats_nothing_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", "api.server"), serving(None) as url:
        said = sent(url, b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer of-anna\r\n\r\n")
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.split()[1] == b"400"
    assert b"application/problem+json" in head
    assert b"Server: catchment" in head
    problem = json.loads(body)
    assert (problem["title"], problem["status"]) == ("Bad Request", 400)
    assert problem["detail"] == "Invalid header token"
    assert "Invalid header token" in caplog.text
    assert "anna" not in caplog.text


def test_an_address_with_a_host_in_it_is_that_of_its_path() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await health(scope, receive, send)

    with serving(None, app) as url:
        sent(url, b"GET http://other/a%20b?c=d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    (scope,) = seen
    assert (scope["path"], scope["query_string"], scope["scheme"]) == ("/a b", b"c=d", "http")


def test_a_connection_without_a_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FIRST_S", 0.2)
    with serving(None) as url:
        assert sent(url, b"") == sent(url, b"GET / HTTP/1.1\r\nHost:") == b""


def test_a_client_that_goes_is_news_to_who_waits_for_it() -> None:
    heard = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        heard.set()

    with serving(None, app) as url:
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert heard.wait(10)
