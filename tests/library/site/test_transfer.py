"""Downloads, the cache and uploads, over real HTTP, with connections that break."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catchment.errors import DigestMismatch, Refused, SetupError, TransferError, Unauthorized, Unreachable
from catchment.site.cache import BlobCache
from catchment.site.exchange import Exchange, NotRegisteredError
from catchment.site.http import Connection, Endpoint, tls_context
from catchment.site.outbox import REQUEST_BYTES, Outbox
from catchment.site.work import Work
from catchment.wire.messages import Blob, PollRequest, Registration, WorkOrder, WorkResult
from catchment.wire.task import UPDATE
from tests.library.site.exchange_double import ExchangeDouble, digest_of

OpenExchange = Callable[[], Exchange]


@pytest.fixture
def open_exchange(exchange: ExchangeDouble) -> Iterator[OpenExchange]:
    opened: list[Exchange] = []

    def open_exchange() -> Exchange:
        opened.append(Exchange(Endpoint(exchange.url, exchange.token), "site-1"))
        return opened[-1]

    exchange.sessions = {"a" * 8}
    yield open_exchange
    for one in opened:
        one.close()


def download(open_exchange: OpenExchange) -> Callable[[Blob, int], Iterator[memoryview]]:
    def pieces(blob: Blob, offset: int) -> Iterator[memoryview]:
        with open_exchange() as exchange:
            yield from exchange.read_blob(blob, offset)

    return pieces


def test_a_broken_download_goes_on_where_it_was(
    exchange: ExchangeDouble, open_exchange: OpenExchange, tmp_path: Path
) -> None:
    blob = exchange.add_blob(os.urandom(3_000_000))
    exchange.break_blob_after = 1_100_000
    cache = BlobCache(tmp_path, 10**9)
    with pytest.raises(Unreachable, match="broke off"):
        cache.link(blob, tmp_path / "a", download(open_exchange))
    again = BlobCache(tmp_path, 10**9)  # as after a restart
    again.link(blob, tmp_path / "a", download(open_exchange))
    assert digest_of((tmp_path / "a").read_bytes()) == blob.digest
    assert [span for _, span in exchange.blob_requests] == ["", "bytes=1100000-"]
    assert not (tmp_path / "a").stat().st_mode & 0o222


def test_concurrent_works_download_once(
    exchange: ExchangeDouble, open_exchange: OpenExchange, tmp_path: Path
) -> None:
    blob = exchange.add_blob(os.urandom(2_000_000))
    cache = BlobCache(tmp_path, 10**9)
    threads = [
        threading.Thread(target=cache.link, args=(blob, tmp_path / str(number), download(open_exchange)))
        for number in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(exchange.blob_requests) == 1
    assert len({(tmp_path / str(number)).stat().st_ino for number in range(5)}) == 1


def test_damaged_bytes_are_thrown_away(
    exchange: ExchangeDouble, open_exchange: OpenExchange, tmp_path: Path
) -> None:
    blob = exchange.add_blob(b"good")
    exchange.blobs[blob.digest] = b"evil"
    cache = BlobCache(tmp_path, 10**9)
    with pytest.raises(DigestMismatch):
        cache.link(blob, tmp_path / "a", download(open_exchange))
    exchange.blobs[blob.digest] = b"longer than announced"
    with pytest.raises(TransferError, match="longer"):
        cache.link(blob, tmp_path / "a", download(open_exchange))
    exchange.blobs[blob.digest] = b"good"
    cache.link(blob, tmp_path / "a", download(open_exchange))
    assert (tmp_path / "a").read_bytes() == b"good"


def test_a_part_that_is_not_the_blobs_is_begun_anew(
    exchange: ExchangeDouble, open_exchange: OpenExchange, tmp_path: Path
) -> None:
    blob = exchange.add_blob(b"0123456789")
    cache = BlobCache(tmp_path, 10**9)
    (tmp_path / "sha256" / f"{blob.digest[7:]}.part").write_bytes(b"x" * 99)
    with pytest.raises(TransferError):
        cache.link(blob, tmp_path / "a", download(open_exchange))
    cache.link(blob, tmp_path / "a", download(open_exchange))
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_a_script_cannot_change_what_the_next_one_gets(
    exchange: ExchangeDouble, open_exchange: OpenExchange, tmp_path: Path
) -> None:
    blob = exchange.add_blob(b"0123456789")
    cache = BlobCache(tmp_path, 10**9)
    cache.link(blob, tmp_path / "a", download(open_exchange))
    (tmp_path / "a").chmod(0o644)
    (tmp_path / "a").write_bytes(b"9876543210")
    cache.link(blob, tmp_path / "b", download(open_exchange))
    assert (tmp_path / "b").read_bytes() == b"0123456789"


def test_the_cache_forgets_what_was_not_used_for_longest(
    exchange: ExchangeDouble, open_exchange: OpenExchange, tmp_path: Path
) -> None:
    cache = BlobCache(tmp_path, 2500)
    blobs = [exchange.add_blob(bytes([number]) * 1000) for number in range(3)]
    fetch = download(open_exchange)
    for number, index in enumerate((0, 1, 0, 2, 0, 1)):
        cache.link(blobs[index], tmp_path / str(number), fetch)
    assert [digest for digest, _ in exchange.blob_requests] == [blobs[i].digest for i in (0, 1, 2, 1)]
    assert (tmp_path / "1").read_bytes() == blobs_bytes(1), "links of works stay"


def blobs_bytes(number: int) -> bytes:
    return bytes([number]) * 1000


def test_an_empty_blob_is_a_blob(
    exchange: ExchangeDouble, open_exchange: OpenExchange, tmp_path: Path
) -> None:
    blob = exchange.add_blob(b"")
    BlobCache(tmp_path, 10**9).link(blob, tmp_path / "a", download(open_exchange))
    assert (tmp_path / "a").read_bytes() == b""


@pytest.fixture
def outbox(exchange: ExchangeDouble, open_exchange: OpenExchange, tmp_path: Path) -> Iterator[Outbox]:
    folder = tmp_path / "outbox"
    folder.mkdir()

    def register() -> None:
        with open_exchange() as one:
            one.register(Registration(session="b" * 8, address="a", runtimes=()))

    box = Outbox(folder, open_exchange, register, lambda: None)
    box.start()
    yield box
    box.stop(5)


def finished(tmp_path: Path, order: WorkOrder, update: bytes) -> tuple[Work, WorkResult]:
    work = Work.accept(tmp_path, order)
    work.task_folder.mkdir()
    (work.task_folder / UPDATE).write_bytes(update)
    blob = Blob(digest=digest_of(update), size_bytes=len(update))
    return work, WorkResult(status="done", update=blob, log_tail="log")


def test_an_upload_that_was_cut_goes_on_in_the_middle(
    exchange: ExchangeDouble, outbox: Outbox, tmp_path: Path, order
) -> None:
    update = os.urandom(REQUEST_BYTES + 5_000_000)
    given = exchange.publish(order())
    exchange.break_upload_after = 3_000_000
    outbox.put(*finished(tmp_path, given, update))
    assert exchange.result(given.work_id).status == "done"
    assert bytes(exchange.uploads[given.work_id]) == update
    total = len(update)
    sent = [span for _, span in exchange.upload_requests]
    assert sent[-1].endswith(f"-{total - 1}/{total}")
    # Cut in its first request; wherever the next one begins, nothing that has arrived is sent again.
    assert f"bytes 3000000-{3_000_000 + REQUEST_BYTES - 1}/{total}" in sent
    exchange.until(lambda: not outbox.ids())


def test_a_409_says_where_to_go_on(exchange: ExchangeDouble, outbox: Outbox, tmp_path: Path, order) -> None:
    update = os.urandom(100_000)
    given = order()
    work, result = finished(tmp_path, given, update)
    exchange.publish(given)
    exchange.uploads[given.work_id] = bytearray(update[:40_000])
    exchange.refuse["POST /result"] = (503, "soon")
    outbox.put(work, result)
    exchange.until(lambda: exchange.refused)
    assert bytes(exchange.uploads[given.work_id]) == update
    exchange.uploads[given.work_id] = bytearray(update[:10])  # the server lost some of it
    del exchange.refuse["POST /result"]
    outbox.wake()
    assert exchange.result(given.work_id).update == result.update


def test_works_that_nobody_knows_are_dropped(
    exchange: ExchangeDouble, outbox: Outbox, tmp_path: Path, order
) -> None:
    given = order()
    outbox.put(*finished(tmp_path, given, b"x"))
    exchange.until(lambda: not outbox.ids() and not list((tmp_path / "outbox").iterdir()))


def test_a_forgotten_site_registers_and_delivers(
    exchange: ExchangeDouble, outbox: Outbox, tmp_path: Path, order
) -> None:
    exchange.sessions = set()
    given = exchange.publish(order())
    outbox.put(*finished(tmp_path, given, b"x"))
    assert exchange.result(given.work_id).status == "done"
    assert len(exchange.registrations) == 1


def test_a_refused_update_becomes_a_failed_result(
    exchange: ExchangeDouble, outbox: Outbox, tmp_path: Path, order
) -> None:
    given = exchange.publish(order())
    exchange.refuse["PUT /update"] = (413, "updates of 16 GiB at most")
    outbox.put(*finished(tmp_path, given, b"x"))
    result = exchange.result(given.work_id)
    assert result.status == "failed"
    assert result.reason == "the coordinator refused the update: 413 updates of 16 GiB at most"
    assert result.log_tail == "log"


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, Refused), (401, Unauthorized), (410, NotRegisteredError), (429, Unreachable), (502, Unreachable)],
)
def test_statuses_are_errors_with_the_servers_words(
    exchange: ExchangeDouble, open_exchange: OpenExchange, status: int, error: type[Exception]
) -> None:
    exchange.refuse["POST /poll"] = (status, "because")
    with pytest.raises(error, match=f"{status} because"):
        open_exchange().poll(PollRequest(session="a" * 8, free=1, wait_s=0))


def test_a_closed_kept_connection_is_opened_again(
    exchange: ExchangeDouble, open_exchange: OpenExchange
) -> None:
    one = open_exchange()
    request = PollRequest(session="a" * 8, free=1, wait_s=0)
    one.poll(request)
    port = exchange.port
    exchange.stop()
    exchange.start(port)
    one.poll(request)


def test_abort_wakes_a_waiting_poll(exchange: ExchangeDouble, open_exchange: OpenExchange) -> None:
    one = open_exchange()
    errors: list[Exception] = []

    def poll() -> None:
        try:
            one.poll(PollRequest(session="a" * 8, free=0, wait_s=30))
        except Unreachable as error:
            errors.append(error)

    thread = threading.Thread(target=poll)
    thread.start()
    exchange.until(lambda: exchange.polls)
    one.abort()
    thread.join(timeout=5)
    assert len(errors) == 1
    with pytest.raises(Unreachable):
        one.poll(PollRequest(session="a" * 8, free=0, wait_s=0))
    one.rearm()
    one.poll(PollRequest(session="a" * 8, free=0, wait_s=0))


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://x", "http://", "http://u:p@x", "http://x?y", "http://x:pp"]
)
def test_a_wrong_address_is_said_to_be_one(url: str) -> None:
    with pytest.raises(SetupError, match="is no address of a server"):
        Connection(Endpoint(url))


def test_certificates_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("rubbish")
    for name in ("ca.pem", "gone.pem"):
        with pytest.raises(SetupError, match=name):
            tls_context(str(tmp_path / name))


def test_the_token_is_not_in_the_endpoints_words() -> None:
    assert "s3cret" not in repr(Endpoint("http://x", "s3cret"))
