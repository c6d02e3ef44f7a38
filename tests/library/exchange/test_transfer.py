"""Bytes down by digest, updates up in chunks that resume."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catchment.errors import (
    DigestMismatch,
    Forbidden,
    NotFound,
    OffsetMismatch,
    Refused,
    TransferError,
    Unreachable,
)
from catchment.exchange import results, transfer
from catchment.jobs import purge
from catchment.store import Store
from catchment.store.blobs import put_bytes
from catchment.wire.messages import Blob, WorkResult
from tests.library.exchange.offers import DATA, close, digest_of, offer, order, pieces, send, work
from tests.library.store.fresh import BOTH

TOTAL = len(DATA)


def staged(store: Store) -> list[Path]:
    return list(store.blobs.staging_folder.glob("*"))


def done(data: bytes = DATA) -> WorkResult:
    return WorkResult(
        status="done",
        update=Blob(digest=digest_of(data), size_bytes=len(data)),
        metrics={"sample_num": 3},
    )


# Down


def test_a_site_may_fetch_what_its_own_open_work_needs(store: Store) -> None:
    scripts = put_bytes(store.blobs, b"a zip")
    sent = {"archive": {"digest": scripts, "size_bytes": 5}, "config_file": "c.json", "folder": "s"}
    offer(store, "a", order=order(store, scripts=sent))
    for digest, data in ((digest_of(b"weights of the round"), b"weights of the round"), (scripts, b"a zip")):
        path, size = transfer.site_blob(store, "a", digest)
        assert (path.read_bytes(), size) == (data, len(data))


@pytest.mark.parametrize("state", ["delivered", "admitted", "cancelled", "late", "lost", "failed"])
def test_closed_work_opens_nothing(store: Store, state: str) -> None:
    offer(store, "a", state=state)
    with pytest.raises(Forbidden):
        transfer.site_blob(store, "a", digest_of(b"weights of the round"))


def test_foreign_and_unknown_blobs_are_forbidden(store: Store) -> None:
    offer(store, "b")
    secret = put_bytes(store.blobs, b"another job's")
    hostile = ["", "sha256:../../x", "\x00", "sha256:" + "0" * 64]
    for digest in (digest_of(b"weights of the round"), secret, *hostile):
        with pytest.raises(Forbidden):
            transfer.site_blob(store, "a", digest)


def test_a_needed_blob_that_the_store_lost_is_not_found(store: Store) -> None:
    offer(store, "a")
    store.blobs.delete(digest_of(b"weights of the round"))
    with pytest.raises(NotFound):
        transfer.site_blob(store, "a", digest_of(b"weights of the round"))


# Up


@BOTH
def test_an_update_arrives(store: Store) -> None:
    work_id = offer(store, "a")
    assert transfer.upload_offset(store, "a", work_id) == 0
    assert send(store, "a", work_id) == TOTAL
    assert (work(store, work_id).update, work(store, work_id).update_bytes) == (digest_of(DATA), TOTAL)
    assert store.blobs.local_path(digest_of(DATA)).read_bytes() == DATA
    assert transfer.upload_offset(store, "a", work_id) == TOTAL
    assert send(store, "a", work_id) == TOTAL, "sent again it is there already"
    assert staged(store) == []


@given(cuts=st.lists(st.integers(0, TOTAL), max_size=6), piece=st.integers(1, 5000))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_may_come_in_any_pieces(store: Store, cuts: list[int], piece: int) -> None:
    work_id = offer(store, "a")
    edges = [0, *sorted(cuts), TOTAL]
    for start, stop in itertools.pairwise(edges):
        stored = asyncio.run(
            transfer.receive(
                store,
                "a",
                work_id,
                start=start,
                total=TOTAL,
                digest=digest_of(DATA),
                chunks=pieces(DATA[start:stop], piece),
            )
        )
        assert stored == stop
    assert work(store, work_id).update == digest_of(DATA)


def test_an_upload_that_broke_off_goes_on_where_it_was(store: Store) -> None:
    work_id = offer(store, "a")

    async def breaking() -> AsyncIterator[bytes]:
        yield DATA[:6000]
        raise TransferError("the connection ended")

    async def scene() -> None:
        await transfer.receive(
            store, "a", work_id, start=0, total=TOTAL, digest=digest_of(DATA), chunks=breaking()
        )

    send(store, "a", work_id, DATA[:3000])
    with pytest.raises(OffsetMismatch) as raised:
        asyncio.run(scene())
    assert raised.value.offset == transfer.upload_offset(store, "a", work_id) == 3000
    assert send(store, "a", work_id, DATA[3000:], start=3000) == TOTAL


def test_what_arrived_survives_a_broken_connection(store: Store) -> None:
    work_id = offer(store, "a")

    async def breaking() -> AsyncIterator[bytes]:
        yield DATA[:4000]
        raise TransferError("the connection ended")

    async def scene() -> None:
        await transfer.receive(
            store, "a", work_id, start=0, total=TOTAL, digest=digest_of(DATA), chunks=breaking()
        )

    with pytest.raises(TransferError, match="the connection ended"):
        asyncio.run(scene())
    assert transfer.upload_offset(store, "a", work_id) == 4000
    assert send(store, "a", work_id, DATA[4000:], start=4000) == TOTAL


@pytest.mark.parametrize("start", [1, 2999, 3001, TOTAL])
def test_a_chunk_that_does_not_continue_is_told_the_right_offset(store: Store, start: int) -> None:
    work_id = offer(store, "a")
    send(store, "a", work_id, DATA[:3000])
    with pytest.raises(OffsetMismatch) as raised:
        send(store, "a", work_id, DATA[start:], start=start)
    assert raised.value.offset == 3000
    assert transfer.upload_offset(store, "a", work_id) == 3000


def test_more_than_announced_is_refused_and_keeps_what_was_right(store: Store) -> None:
    work_id = offer(store, "a")
    send(store, "a", work_id, DATA[:3000])
    with pytest.raises(TransferError, match=f"more than the announced {TOTAL}"):
        send(store, "a", work_id, DATA[3000:] + b"x", start=3000)
    assert transfer.upload_offset(store, "a", work_id) == 3000
    assert work(store, work_id).update is None


def test_a_wrong_digest_starts_anew(store: Store) -> None:
    work_id = offer(store, "a")
    with pytest.raises(DigestMismatch) as raised:
        send(store, "a", work_id, bytes(TOTAL))
    assert (raised.value.expected, raised.value.actual) == (digest_of(DATA), digest_of(bytes(TOTAL)))
    assert transfer.upload_offset(store, "a", work_id) == 0
    assert staged(store) == []
    assert send(store, "a", work_id) == TOTAL


def test_another_update_after_an_unfinished_one_comes_through(store: Store) -> None:
    """A site that was restarted trains again, and what it sends then has other bytes."""
    work_id = offer(store, "a")
    send(store, "a", work_id, DATA[:9000])
    short = b"a shorter update"
    with pytest.raises(OffsetMismatch) as raised:
        send(store, "a", work_id, short, start=9000, total=len(short), digest=digest_of(short))
    assert raised.value.offset == 0
    assert send(store, "a", work_id, short, total=len(short), digest=digest_of(short)) == len(short)
    assert work(store, work_id).update == digest_of(short)


@BOTH
def test_an_update_that_replaces_another_leaves_nothing_of_it(store: Store) -> None:
    work_id = offer(store, "a")
    send(store, "a", work_id)
    other = b"trained again" * 100
    send(store, "a", work_id, other, total=len(other), digest=digest_of(other))
    assert work(store, work_id).update == digest_of(other)
    assert not store.blobs.exists(digest_of(DATA))


def test_an_update_that_another_work_has_too_stays(store: Store) -> None:
    first, second = offer(store, "a"), offer(store, "a")
    send(store, "a", first)
    send(store, "a", second)
    other = b"trained again"
    send(store, "a", first, other, total=len(other), digest=digest_of(other))
    assert store.blobs.exists(digest_of(DATA))


def test_an_empty_update_is_one_too(store: Store) -> None:
    work_id = offer(store, "a")
    assert send(store, "a", work_id, b"", total=0, digest=digest_of(b"")) == 0
    assert work(store, work_id).update == digest_of(b"")


def test_two_requests_for_one_work_do_not_mix(store: Store) -> None:
    work_id = offer(store, "a")
    refused: list[str] = []

    async def slow(begun: asyncio.Event, go_on: asyncio.Event) -> AsyncIterator[bytes]:
        yield DATA[:5000]
        begun.set()
        await go_on.wait()
        yield DATA[5000:]

    async def scene() -> int:
        begun, go_on = asyncio.Event(), asyncio.Event()
        arguments: dict[str, Any] = {"start": 0, "total": TOTAL, "digest": digest_of(DATA)}
        first = asyncio.create_task(
            transfer.receive(store, "a", work_id, chunks=slow(begun, go_on), **arguments)
        )
        await asyncio.wait_for(begun.wait(), 10)
        try:
            await transfer.receive(store, "a", work_id, chunks=pieces(bytes(TOTAL)), **arguments)
        except TransferError as error:
            refused.append(str(error))
        go_on.set()
        return await first

    assert asyncio.run(scene()) == TOTAL
    assert "another request" in refused[0]
    assert store.blobs.local_path(digest_of(DATA)).read_bytes() == DATA


def test_too_large_an_update_is_refused_before_its_first_byte(store: Store) -> None:
    object.__setattr__(store, "settings", store.settings.model_copy(update={"max_update_bytes": TOTAL - 1}))
    work_id = offer(store, "a")
    with pytest.raises(Refused, match=f"{TOTAL} bytes, at most {TOTAL - 1}"):
        send(store, "a", work_id)
    assert staged(store) == []


def test_a_foreign_or_unknown_work_is_not_found(store: Store) -> None:
    work_id = offer(store, "a")
    for site, name in (("b", work_id), ("a", "nonsense"), ("a", "../../etc"), ("a", "")):
        with pytest.raises(NotFound):
            send(store, site, name)
        with pytest.raises(NotFound):
            transfer.upload_offset(store, site, name)
        with pytest.raises(NotFound):
            results.finish_work(store, site, name, WorkResult(status="failed"))
    assert staged(store) == []


@BOTH
def test_a_work_id_with_nul_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        transfer.upload_offset(store, "a", "a\x00b")


@pytest.mark.parametrize("state", ["cancelled", "late", "lost", "delivered", "admitted"])
def test_an_upload_for_closed_work_is_refused_and_its_part_is_dropped(store: Store, state: str) -> None:
    work_id = offer(store, "a")
    send(store, "a", work_id, DATA[:3000])
    close(store, work_id, state, "the round closed without it")
    with pytest.raises(Refused, match="the round closed without it"):
        send(store, "a", work_id, DATA[3000:], start=3000)
    assert staged(store) == []


@BOTH
@pytest.mark.parametrize("fate", ["late", "deleted"])
def test_work_that_is_closed_while_its_update_arrives_keeps_nothing(store: Store, fate: str) -> None:
    work_id = offer(store, "a")

    async def closing() -> AsyncIterator[bytes]:
        yield DATA[:5000]
        if fate == "deleted":
            from sqlalchemy import delete

            from catchment.store.schema import works

            store.db.write(lambda tx: tx.execute(delete(works).where(works.c.id == work_id)))
        else:
            close(store, work_id, fate)
        yield DATA[5000:]

    async def scene() -> None:
        await transfer.receive(
            store, "a", work_id, start=0, total=TOTAL, digest=digest_of(DATA), chunks=closing()
        )

    with pytest.raises(Refused, match="not wanted"):
        asyncio.run(scene())
    assert not store.blobs.exists(digest_of(DATA)), "what a site sent is not kept where nobody needs it"
    assert staged(store) == []


def test_an_upload_whose_file_a_purge_took_is_not_found(store: Store) -> None:
    work_id = offer(store, "a")

    async def purged() -> AsyncIterator[bytes]:
        yield DATA
        for path in staged(store):
            path.unlink()

    async def scene() -> None:
        await transfer.receive(
            store, "a", work_id, start=0, total=TOTAL, digest=digest_of(DATA), chunks=purged()
        )

    with pytest.raises(NotFound):
        asyncio.run(scene())


@BOTH
def test_an_update_whose_equal_bytes_are_just_being_removed_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site that learns nothing new sends the same bytes again, while the round before is swept away."""
    put_bytes(store.blobs, DATA)
    work_id = offer(store, "a")
    found_unused, arrives = threading.Event(), threading.Event()
    used = purge._used

    def slow(tx: Any, digests: set[str]) -> set[str]:
        found = used(tx, digests)
        found_unused.set()
        arrives.wait(1)  # where nothing held the other back, it would be done by now
        return found

    monkeypatch.setattr(purge, "_used", slow)
    sweeping = threading.Thread(target=purge.delete_unreferenced, args=(store, {digest_of(DATA)}))
    sweeping.start()
    assert found_unused.wait(10)
    assert send(store, "a", work_id) == TOTAL
    arrives.set()
    sweeping.join(20)
    assert work(store, work_id).update == digest_of(DATA)
    assert store.blobs.exists(digest_of(DATA))


def test_an_upload_that_lost_its_bytes_to_a_sweep_begins_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_id = offer(store, "a")
    with monkeypatch.context() as patch:
        patch.setattr(store.blobs, "put_file", lambda source, digest: source.unlink())
        with pytest.raises(TransferError, match="was removed"):
            send(store, "a", work_id)
    assert transfer.upload_offset(store, "a", work_id) == 0
    assert send(store, "a", work_id) == TOTAL
    assert store.blobs.exists(digest_of(DATA))


# The last byte arrived, and then the storage was away


def test_an_update_whose_keeping_failed_is_kept_with_its_result(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_id = offer(store, "a")

    def away(source: Path, digest: str) -> None:
        raise Unreachable("the storage does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(store.blobs, "put_file", away)
        with pytest.raises(Unreachable):
            send(store, "a", work_id)
    assert transfer.upload_offset(store, "a", work_id) == TOTAL, "the site has nothing left to send"
    assert results.finish_work(store, "a", work_id, done()).accepted
    assert work(store, work_id).update == digest_of(DATA)
    assert staged(store) == []


def test_bytes_that_are_all_there_and_wrong_are_noticed_at_the_result(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_id = offer(store, "a")

    def away(source: Path, digest: str) -> None:
        raise Unreachable("the storage does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(store.blobs, "put_file", away)
        with pytest.raises(Unreachable):
            send(store, "a", work_id)
    with pytest.raises(DigestMismatch):
        results.finish_work(store, "a", work_id, done(bytes(TOTAL)))
    assert transfer.upload_offset(store, "a", work_id) == 0
