"""Mutual TLS with real sockets: the API's process, a site's half of the exchange, and bad certificates."""

from __future__ import annotations

import os
import secrets
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import select

from catchment.client import Client
from catchment.errors import Forbidden, Unreachable
from catchment.settings import Settings
from catchment.site.exchange import Exchange, NotRegisteredError
from catchment.site.http import Endpoint
from catchment.store import Store, open_store
from catchment.store.schema import sites, works
from catchment.tls.authority import Authority, Pair
from catchment.tls.contexts import reloading_client_context
from catchment.wire.messages import Blob, PollRequest, Registration, WorkResult
from tests.api.orders import REGISTRATION, digest_of, offer_work
from tests.api.serving import ApiProcess, api_process
from tests.certificates import DAY, authority, sign
from tests.conftest import free_port, wait_until

MIB = 1 << 20
HELLO = Registration.model_validate(REGISTRATION)
POLL = PollRequest(session="session-1", free=1, wait_s=0)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory, migrated_home: Path) -> Path:
    return Path(shutil.copytree(migrated_home, tmp_path_factory.mktemp("secure") / "home"))


@pytest.fixture(scope="module")
def running(shared_home: Path, tls: Authority) -> Iterator[ApiProcess]:
    """One process for all tests that leave it as it was."""
    with api_process(shared_home, free_port(), tls=tls) as process:
        yield process


@pytest.fixture
def store(shared_home: Path, running: ApiProcess) -> Iterator[Store]:
    opened = open_store(Settings(home=shared_home))
    yield opened
    opened.close()


@pytest.fixture
def site(tls: Authority) -> str:
    """The name of a site of this test's own, with a certificate."""
    name = f"site-{secrets.token_hex(4)}"
    tls.add_site(name)
    return name


Connect = Callable[..., AbstractContextManager[Exchange]]


def connecting(running: ApiProcess, tls: Authority) -> Connect:
    """Opens the exchange as a site, showing a certificate or none."""

    @contextmanager
    def connect(site: str, shown: Pair | None = None, ca: Path | None = None) -> Iterator[Exchange]:
        pair = (shown.certificate, shown.key) if shown else (None, None)
        context = reloading_client_context(ca or tls.ca.certificate, *pair)
        with Exchange(Endpoint(running.url, tls=context), site) as exchange:
            yield exchange

    return connect


@pytest.fixture
def connect(running: ApiProcess, tls: Authority) -> Connect:
    return connecting(running, tls)


def port_of(running: ApiProcess) -> int:
    return int(running.url.rsplit(":", 1)[1])


def shown_serial(running: ApiProcess) -> int:
    """Serial number of the certificate that a new connection gets to see."""
    pem = ssl.get_server_certificate(("127.0.0.1", port_of(running)))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def serial(pair: Pair) -> int:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes()).serial_number


def test_a_site_with_its_certificate_gets_and_delivers_secured_work(
    running: ApiProcess, store: Store, connect: Connect, tls: Authority, site: str
) -> None:
    work = f"{site}-w"
    weights, update = os.urandom(5 * MIB), os.urandom(3 * MIB)
    with connect(site, tls.site(site)) as exchange:
        exchange.register(HELLO)
        digest = offer_work(store, site, work, weights, secured=True)
        (order,) = exchange.poll(POLL).work
        assert b"".join(bytes(piece) for piece in exchange.read_blob(order.weights, 0)) == weights
        assert b"".join(bytes(piece) for piece in exchange.read_blob(order.weights, MIB)) == weights[MIB:]
        blob = Blob(digest=digest_of(update), size_bytes=len(update))
        assert exchange.put_chunk(work, "update", blob, update[:MIB], 0) == MIB
        assert exchange.upload_offset(work, "update") == MIB
        assert exchange.put_chunk(work, "update", blob, update[MIB:], MIB) == len(update)
        assert exchange.send_result(work, WorkResult(status="done", update=blob)).accepted
    assert order.weights.digest == digest
    with Client(running.url, ca_file=tls.ca.certificate) as client:
        shown = {each.name: each.document["mutual_tls"] for each in client.list_sites()}
    assert shown[site] is True


def test_without_a_certificate_there_is_everything_but_secured_work(
    running: ApiProcess, store: Store, connect: Connect, tls: Authority, site: str
) -> None:
    with Client(running.url, ca_file=tls.ca.certificate) as client:
        assert client.healthy()
        assert [each.name for each in client.list_namespaces()] == ["default"]
    secured, opened = f"{site}-s", f"{site}-o"
    secret = offer_work(store, site, secured, b"secret weights", secured=True)
    with connect(site) as plain, connect(site, tls.site(site)) as mutual:
        mutual.register(HELLO)
        assert [order.work_id for order in mutual.poll(POLL).work] == [secured]
        with pytest.raises(NotRegisteredError, match="with mutual TLS, this poll comes without"):
            plain.poll(POLL)
        with pytest.raises(Forbidden, match="no open work"):
            next(plain.read_blob(Blob(digest=secret, size_bytes=14), 0))
        update = Blob(digest=digest_of(b"x"), size_bytes=1)
        for attempt in (
            lambda: plain.put_chunk(secured, "update", update, b"x", 0),
            lambda: plain.send_result(secured, WorkResult(status="failed", reason="no")),
        ):
            with pytest.raises(Forbidden, match="needs a connection with mutual TLS"):
                attempt()
        # A session that begins without a certificate loses what it may not have, and gets the rest.
        plain.register(HELLO)
        offer_work(store, site, opened, b"weights")
        assert [order.work_id for order in plain.poll(POLL).work] == [opened]
        with pytest.raises(NotRegisteredError):
            mutual.poll(POLL)
    lost = store.db.read(lambda tx: tx.execute(select(works).where(works.c.id == secured)).one())
    assert (lost.state, lost.reason) == ("lost", "the site is not connected with mutual TLS any more")


def test_a_certificate_is_good_for_its_own_site_only(connect: Connect, tls: Authority, site: str) -> None:
    with connect("site-1", tls.site(site)) as exchange:
        for attempt in (lambda: exchange.register(HELLO), lambda: exchange.poll(POLL)):
            with pytest.raises(Forbidden, match=f"certificate is that of site '{site}', not of 'site-1'"):
                attempt()


def test_bad_client_certificates_get_no_connection(
    connect: Connect, running: ApiProcess, tls: Authority, site: str, tmp_path: Path
) -> None:
    foreign = authority(tmp_path / "foreign", site)
    expired = sign(tls.ca, site, lasts=-DAY / 2).write(tmp_path, "expired")
    early = sign(tls.ca, site, begins=DAY / 2).write(tmp_path, "early")
    for shown, alert in (
        (foreign.site(site), "unknown ca"),
        (expired, "expired"),
        (early, "bad certificate|expired"),
        (tls.server, "unsupported certificate|certificate unknown"),  # good for a server, not for a client
    ):
        with (
            connect(site, shown) as exchange,
            pytest.raises(Unreachable, match=f"(?i){alert.replace(' ', '.')}"),
        ):
            exchange.register(HELLO)
    with connect(site, tls.site(site)) as exchange:
        exchange.register(HELLO)
    assert "a TLS connection failed client=127.0.0.1 why=" in running.log.read_text()


def test_a_certificate_that_expires_on_a_kept_connection_is_worth_nothing_any_more(
    connect: Connect, tls: Authority, site: str, tmp_path: Path
) -> None:
    short = sign(tls.ca, site, lasts=DAY / 86400 * 4).write(tmp_path, "short")

    def refused() -> bool:
        try:
            exchange.poll(POLL)
        except Forbidden as error:
            return "has expired" in str(error)
        return False

    with connect(site, short) as exchange:
        exchange.register(HELLO)
        wait_until(refused, timeout_s=15, what="the certificate to expire")


def test_plain_http_and_the_systems_roots_get_nowhere(running: ApiProcess) -> None:
    with Client(f"http://127.0.0.1:{port_of(running)}") as client, pytest.raises(Unreachable):
        client.list_sites()
    with Client(running.url) as client, pytest.raises(Unreachable, match="not who it says it is"):
        client.list_sites()


def test_a_renewed_server_certificate_counts_from_the_next_connection_on(
    running: ApiProcess, connect: Connect, tls: Authority, site: str
) -> None:
    with connect(site, tls.site(site)) as kept:
        kept.register(HELLO)
        before = serial(tls.server)
        assert shown_serial(running) == before
        tls.renew_server()
        assert shown_serial(running) == serial(tls.server) != before
        kept.poll(POLL)
    assert running.process.poll() is None
    assert "certificates were read again" in running.log.read_text()


def test_half_a_renewal_leaves_what_was_there(running: ApiProcess, tls: Authority, tmp_path: Path) -> None:
    before, key = shown_serial(running), tls.server.key.read_bytes()
    tls.server.key.write_bytes(authority(tmp_path / "other").server.key.read_bytes())
    assert shown_serial(running) == before
    assert shown_serial(running) == before
    assert running.log.read_text().count("changed certificates cannot be used") == 1
    tls.server.key.write_bytes(key)
    tls.renew_server()
    assert shown_serial(running) == serial(tls.server)


def test_a_replaced_authority_counts_from_the_next_connection_on(home: Path, tmp_path: Path) -> None:
    ours, other = authority(tmp_path / "ours", "site-1"), authority(tmp_path / "other", "site-1")
    roots = tmp_path / "roots.pem"
    roots.write_bytes(ours.ca.certificate.read_bytes())
    with api_process(home, free_port(), tls=ours) as running:
        connect = connecting(running, ours)

        def admitted(shown: Pair) -> bool:
            with connect("site-1", shown, roots) as exchange:
                try:
                    exchange.register(HELLO)
                except Unreachable:
                    return False
                return True

        assert (admitted(ours.site("site-1")), admitted(other.site("site-1"))) == (True, False)
        ours.ca.certificate.write_bytes(other.ca.certificate.read_bytes())
        assert (admitted(ours.site("site-1")), admitted(other.site("site-1"))) == (False, True)


def test_a_site_shows_its_renewed_certificate_without_a_restart(
    store: Store, connect: Connect, tls: Authority, site: str
) -> None:
    def registered_with() -> int:
        pem = store.db.read(
            lambda tx: tx.execute(select(sites.c.certificate).where(sites.c.name == site)).scalar_one()
        )
        return x509.load_pem_x509_certificate(pem.encode()).serial_number

    with connect(site, tls.site(site)) as exchange:
        exchange.register(HELLO)
        before = registered_with()
        tls.renew_site(site)
        exchange.register(HELLO)  # on the kept connection, had it not been opened anew
        assert registered_with() == serial(tls.site(site)) != before


def test_sigterm_answers_open_polls_and_ends_soon(home: Path, tmp_path: Path) -> None:
    ours = authority(tmp_path / "ours", "site-1")
    answered = []
    with (
        api_process(home, free_port(), tls=ours) as running,
        connecting(running, ours)("site-1", ours.site("site-1")) as exchange,
    ):
        exchange.register(HELLO)
        polling = threading.Thread(
            target=lambda: answered.append(exchange.poll(POLL.model_copy(update={"wait_s": 30})))
        )
        polling.start()
        wait_until(lambda: _has_polled(home, "site-1"), timeout_s=10, what="the poll to be open")
        code, seconds = running.terminate(10)
        polling.join(5)
    assert (code, len(answered)) == (0, 1)
    assert seconds < 5


def _has_polled(home: Path, site: str) -> bool:
    store = open_store(Settings(home=home))
    try:
        row = store.db.read(lambda tx: tx.execute(select(sites).where(sites.c.name == site)).one())
    finally:
        store.close()
    return bool(row.last_seen > row.registered_at)
