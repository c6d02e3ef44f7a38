"""Bytes that arrive in pieces: one file and one digest, whatever breaks off in between."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import resource
import tempfile
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catchment.errors import DigestMismatch, NotFound, OffsetMismatch, TransferError, Unreachable
from catchment.store import receiving
from catchment.store.batch import Batch, Piece
from catchment.store.receiving import StagedUpload, StagedUploads

DATA = bytes(range(256)) * 1200
TOTAL = len(DATA)


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


async def each(pieces: Sequence[Piece], error: Exception | None = None) -> AsyncIterator[Piece]:
    for piece in pieces:
        yield piece
    if error is not None:
        raise error


def append(
    upload: StagedUpload, *pieces: Piece, start: int = 0, total: int = TOTAL, error: Exception | None = None
) -> int:
    return asyncio.run(upload.append(each(pieces, error), start=start, total=total))


def cut(data: bytes, edges: list[int]) -> list[bytes]:
    return [data[start:stop] for start, stop in itertools.pairwise([0, *sorted(edges), len(data)])]


@pytest.fixture
def upload(tmp_path: Path) -> StagedUpload:
    return StagedUpload(tmp_path / "staging" / "upload")


@pytest.fixture(params=[1, 5000, 1 << 20], ids=lambda size: f"batch-{size}")
def batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """So much is written at once."""
    monkeypatch.setattr(receiving, "BATCH_BYTES", request.param)
    return int(request.param)


edges = st.lists(st.integers(0, TOTAL), max_size=5)
forms = st.sampled_from([bytes, bytearray, memoryview])


@given(
    requests=edges, pieces=edges, form=forms, forgets=st.booleans(), batch=st.sampled_from([1, 9999, 1 << 20])
)
@settings(max_examples=60, deadline=None)
def test_any_cut_into_requests_and_pieces_gives_the_same_file_and_digest(
    requests: list[int], pieces: list[int], form: type, forgets: bool, batch: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(receiving, "BATCH_BYTES", batch)
        patch.setattr(receiving, "CATCH_UP_BYTES", 20_000)
        path = Path(folder) / "upload"
        upload, start = StagedUpload(path), 0
        for request in cut(DATA, requests):
            inner = [edge for edge in pieces if edge <= len(request)]
            upload = StagedUpload(path) if forgets else upload
            stored = append(upload, *map(form, cut(request, inner)), start=start)
            start += len(request)
            assert stored == upload.stored == start
        assert path.read_bytes() == DATA
        assert upload.digest() == digest_of(DATA)
        upload.finish(digest_of(DATA))


def test_what_this_process_saw_arrive_is_not_read_again(
    upload: StagedUpload, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(upload, DATA[:100_000], DATA[100_000:200_000])
    append(upload, DATA[200_000:], start=200_000)

    def read(*_: object) -> int:
        raise AssertionError("the file was read")

    monkeypatch.setattr(os, "preadv", read)
    assert upload.digest() == digest_of(DATA)


def test_what_another_process_wrote_is_read(upload: StagedUpload, batches: int) -> None:
    append(upload, DATA[:3000])
    with upload.path.open("ab") as file:
        file.write(DATA[3000:9000])
    append(upload, DATA[9000:], start=9000)
    assert upload.digest() == digest_of(DATA)


def test_another_file_of_the_same_name_has_a_digest_of_its_own(upload: StagedUpload) -> None:
    append(upload, DATA)
    upload.path.unlink()
    upload.path.write_bytes(DATA[::-1])
    assert upload.digest() == digest_of(DATA[::-1])


def test_bytes_whose_writing_failed_do_not_count(
    upload: StagedUpload, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(upload, DATA[:1000])

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(Batch, "write", full)
        with pytest.raises(Unreachable, match="cannot be stored: No space left on device"):
            append(upload, DATA[1000:], start=1000)
    assert upload.digest() == digest_of(DATA[:1000])
    assert append(upload, DATA[1000:], start=1000) == TOTAL
    assert upload.digest() == digest_of(DATA)


def test_a_disk_that_takes_no_more_is_named_and_what_it_took_is_continued(upload: StagedUpload) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(Unreachable, match="cannot be stored: File too large"):
            append(upload, DATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert upload.stored == 100_000
    assert append(upload, DATA[100_000:], start=100_000) == TOTAL
    assert upload.digest() == digest_of(DATA)


def test_a_broken_connection_leaves_all_that_arrived(upload: StagedUpload, batches: int) -> None:
    with pytest.raises(TransferError, match="went away"):
        append(upload, DATA[:7000], DATA[7000:70_000], error=TransferError("it went away"))
    assert upload.stored == 70_000
    append(upload, DATA[70_000:], start=70_000)
    assert upload.digest() == digest_of(DATA)


@pytest.mark.parametrize("start", [0, 2999, 3001, TOTAL])
def test_what_does_not_continue_is_told_the_right_offset(upload: StagedUpload, start: int) -> None:
    append(upload, DATA[:3000])
    with pytest.raises(OffsetMismatch) as raised:
        append(upload, DATA[start:], start=start)
    assert raised.value.offset == upload.stored == 3000


def test_more_than_announced_is_refused(upload: StagedUpload, batches: int) -> None:
    with pytest.raises(TransferError, match=f"more than the announced {TOTAL} bytes"):
        append(upload, DATA, b"x")
    assert upload.stored <= TOTAL
    append(upload, DATA[upload.stored :], start=upload.stored)
    assert upload.digest() == digest_of(DATA)


def test_a_longer_file_belongs_to_another_upload(upload: StagedUpload) -> None:
    append(upload, DATA)
    assert append(upload, b"short", total=5) == 5
    assert upload.digest() == digest_of(b"short")


def test_a_wrong_digest_begins_anew(upload: StagedUpload) -> None:
    append(upload, bytes(TOTAL))
    with pytest.raises(DigestMismatch) as raised:
        upload.finish(digest_of(DATA))
    assert (raised.value.expected, raised.value.actual) == (digest_of(DATA), digest_of(bytes(TOTAL)))
    assert upload.stored == 0
    append(upload, DATA)
    upload.finish(digest_of(DATA))


def test_nothing_at_all_is_an_upload_too(upload: StagedUpload) -> None:
    assert append(upload, total=0) == 0
    upload.finish(digest_of(b""))


def test_a_file_that_was_deleted_is_not_found(upload: StagedUpload) -> None:
    append(upload, DATA)
    upload.path.unlink()
    with pytest.raises(NotFound):
        upload.finish(digest_of(DATA))


def test_an_upload_is_open_in_one_place_at_a_time(tmp_path: Path) -> None:
    uploads = StagedUploads()
    with uploads.open(tmp_path / "a"), uploads.open(tmp_path / "b"):
        assert uploads.is_open(tmp_path / "a")
        with pytest.raises(TransferError, match="another request"), uploads.open(tmp_path / "a"):
            pass
    assert not uploads.is_open(tmp_path / "a")
    with uploads.open(tmp_path / "a"):
        pass


def test_a_digest_is_kept_from_request_to_request_while_its_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "REMEMBERED", 2)
    uploads = StagedUploads()
    seen = []
    for name in ("a", "b", "gone"):
        with uploads.open(tmp_path / name) as upload:
            append(upload, DATA[:1000])
            seen.append(upload)
            if name == "gone":
                upload.discard()
    for upload in seen[:2]:
        with uploads.open(upload.path) as again:
            assert again is upload
    with uploads.open(tmp_path / "gone") as again:
        assert again.stored == 0
    for name in ("c", "d"):
        with uploads.open(tmp_path / name) as upload:
            append(upload, DATA)
    with uploads.open(tmp_path / "a") as again:
        assert again is not seen[0], "the oldest was forgotten; its file is read instead"
        append(again, DATA[1000:], start=1000)
        assert again.digest() == digest_of(DATA)


def test_a_cancelled_request_ends_its_writing_before_its_file_is_closed(
    upload: StagedUpload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that went on with the descriptor could write into whatever file gets its number next."""
    monkeypatch.setattr(receiving, "BATCH_BYTES", 1)
    writing, go_on = threading.Event(), threading.Event()
    wrote: list[bool] = []
    write = Batch.write

    def slow(batch: Batch, descriptor: int, offset: int) -> None:
        writing.set()
        assert go_on.wait(10)
        os.fstat(descriptor)  # raises where it was closed
        wrote.append(True)
        write(batch, descriptor, offset)

    monkeypatch.setattr(Batch, "write", slow)

    async def scene() -> None:
        task = asyncio.create_task(upload.append(each([DATA[:1000], DATA[1000:]]), start=0, total=TOTAL))
        await asyncio.to_thread(writing.wait, 10)
        task.cancel()
        await asyncio.wait([task], timeout=0.2)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    assert wrote == [True]
    assert upload.stored == 1000
    append(upload, DATA[1000:], start=1000)
    assert upload.digest() == digest_of(DATA)
