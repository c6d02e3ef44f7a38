"""The TLS server's own certificate, as clients see it; a small application in this process behind it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from cryptography import x509
from starlette.types import Receive, Scope, Send

from api.secure import SecureServer
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
def serving(pair: Pair) -> Iterator[str]:
    """Its address."""
    port = free_port()
    server = SecureServer(health, server_context(pair.certificate, pair.key))
    with start_blocking_portal() as portal:
        portal.call(server.start, "127.0.0.1", port)
        try:
            yield f"https://127.0.0.1:{port}"
        finally:
            portal.call(server.stop, 2.0)


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
