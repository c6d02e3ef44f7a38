"""Large bodies on their way into the store: written, hashed and synced while they still arrive.

Pieces are written as they came, without a copy. While two threads write and hash one batch, the event loop
receives the next. How far the digest has come is known to this process only; what it did not see arrive,
it reads from the file, so that an upload goes on after a crash with the same result.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NoReturn

from catchment import faults
from catchment.errors import DigestMismatch, NotFound, OffsetMismatch, TransferError, Unreachable
from catchment.store.batch import Batch, Piece
from catchment.store.behind import OneBehind

BATCH_BYTES = 2 << 20
"""So much is handed to a thread at once; twice that is in memory."""
CATCH_UP_BYTES = 4 * BATCH_BYTES
"""So much of what was there before is read with each batch, until the digest has caught up."""
REMEMBERED = 1024
"""So many uploads that no request is sending just now keep their digest so far."""
_BUFFER_BYTES = 1 << 20


class StagedUpload:
    """A file that grows at its end, and the SHA-256 of what it holds.

    For one request at a time: `StagedUploads` sees to that.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digest = _RunningDigest()
        self._seen: tuple[int, ...] | None = None

    @property
    def stored(self) -> int:
        """Bytes in the file; 0 when there is none."""
        return stored_bytes(self.path)

    async def append(self, pieces: AsyncIterator[Piece], *, start: int, total: int) -> int:
        """Write what arrives, from offset `start`; return how many bytes are stored then.

        Pieces must not change after they were handed over. What has arrived is kept when `pieces` ends with a
        TransferError. A file with more than `total` bytes belongs to another upload and is removed first.

        Raises:
            OffsetMismatch: `start` does not continue what is stored.
            TransferError: more than `total` bytes arrive; what is stored stays below.
            Unreachable: the disk is full, or does not take the bytes for another reason.
        """
        if self.stored > total:
            self.discard()
        if (stored := self.stored) != start:
            raise OffsetMismatch(stored, start)
        with _clear_reason():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._recognise(descriptor)
            return await self._take(descriptor, pieces, start, total)
        finally:
            self._seen = _looks(descriptor)
            os.close(descriptor)

    def digest(self) -> str:
        """`sha256:` and the SHA-256 in hex of all that is stored. Raises NotFound when the file is gone."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            raise NotFound("the bytes that had arrived were deleted meanwhile") from None
        try:
            self._recognise(descriptor)
            self._digest.read(descriptor, os.fstat(descriptor).st_size)
            self._seen = _looks(descriptor)
        finally:
            os.close(descriptor)
        return self._digest.name()

    def finish(self, digest: str) -> None:
        """Check that all is there as announced, and sync it; the file stays for its taker.

        Raises:
            DigestMismatch: it is something else; the file is removed, and the upload begins anew.
            NotFound: the file is gone.
            Unreachable: the disk does not take it.
        """
        actual = self.digest()
        if actual != digest:
            self.discard()
            raise DigestMismatch(digest, actual)
        with _clear_reason(), self.path.open("rb") as file:
            os.fsync(file.fileno())

    def discard(self) -> None:
        """Forget what has arrived."""
        self.path.unlink(missing_ok=True)
        self._digest, self._seen = _RunningDigest(), None

    def _recognise(self, descriptor: int) -> None:
        """Begin the digest anew where the file is not as we left it, or where a write failed after all."""
        if self._seen != _looks(descriptor) or self._digest.reached > os.fstat(descriptor).st_size:
            self._digest = _RunningDigest()

    async def _take(self, descriptor: int, pieces: AsyncIterator[Piece], start: int, total: int) -> int:
        batch, stored = Batch(), start
        async with OneBehind() as writing, OneBehind() as hashing:

            async def put() -> None:
                await writing.run(_write, descriptor, batch, stored)
                await hashing.run(self._digest.follow, descriptor, batch, stored)

            try:
                async for piece in pieces:
                    faults.reach("mid_upload")
                    if stored + batch.size + len(piece) > total:
                        batch = Batch()
                        _too_much(total)
                    batch.add(piece)
                    if batch.size >= BATCH_BYTES:
                        await put()
                        stored, batch = stored + batch.size, Batch()
            except TransferError:
                await put()
                raise
            await put()
        return stored + batch.size


class StagedUploads:
    """The uploads of this process, by file: each is open in one place at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[Path] = set()
        self._known: dict[Path, StagedUpload] = {}

    def is_open(self, path: Path) -> bool:
        """Whether somebody has this upload just now."""
        with self._lock:
            return path in self._open

    @contextlib.contextmanager
    def open(self, path: Path) -> Iterator[StagedUpload]:
        """An upload, with the digest of what this process has seen of it.

        Raises:
            TransferError: somebody else has it.
        """
        with self._lock:
            if path in self._open:
                raise TransferError(
                    "another request is sending this; wait for it to end, then ask for the offset"
                )
            self._open.add(path)
            upload = self._known.pop(path, None) or StagedUpload(path)
        try:
            yield upload
        finally:
            with self._lock:
                self._open.discard(path)
                if path.exists():
                    self._known[path] = upload
                if len(self._known) > REMEMBERED:
                    del self._known[next(iter(self._known))]


class _RunningDigest:
    """SHA-256 of the first `reached` bytes of a file."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.reached = 0

    def follow(self, descriptor: int, batch: Batch, offset: int) -> None:
        """Take in a batch that is written at `offset`, or first some of what comes before it."""
        self.read(descriptor, min(self.reached + CATCH_UP_BYTES, offset))
        if self.reached == offset:
            for piece in batch.pieces:
                self._sha256.update(piece)
            self.reached += batch.size

    def read(self, descriptor: int, stop: int) -> None:
        """Take in the file's bytes up to `stop`."""
        buffer = memoryview(bytearray(min(_BUFFER_BYTES, max(0, stop - self.reached))))
        while self.reached < stop:
            count = os.preadv(descriptor, [buffer[: stop - self.reached]], self.reached)
            if not count:
                raise TransferError("the file of an upload is shorter than it was")
            self._sha256.update(buffer[:count])
            self.reached += count

    def name(self) -> str:
        return "sha256:" + self._sha256.hexdigest()


def _write(descriptor: int, batch: Batch, offset: int) -> None:
    with _clear_reason():
        batch.write(descriptor, offset)
        if batch.size >= BATCH_BYTES:
            batch.begin_sync(descriptor, offset)


def _too_much(total: int) -> NoReturn:
    raise TransferError(f"more than the announced {total} bytes arrive")


def stored_bytes(path: Path) -> int:
    """Bytes of a file; 0 when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _looks(descriptor: int) -> tuple[int, ...]:
    """What changes when another process writes to the file, or another file takes its name."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def _clear_reason() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreachable(f"the bytes cannot be stored: {error.strerror or error}") from error
