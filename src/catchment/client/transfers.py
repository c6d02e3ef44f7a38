"""A file up or down in one go, continued where it broke off, checked by its digest."""

from __future__ import annotations

import base64
import hashlib
import json
import mmap
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catchment.client.connection import Connection, answered_error
from catchment.errors import DigestMismatch, TransferError, Unreachable

PART_BYTES = 64 << 20
"""Of a request upwards: so much is sent again at most when a connection breaks."""
PIECE_BYTES = 4 << 20
TRIES = 6
"""So often in a row a transfer may break without a byte in between."""
PAUSE_S = 0.5
_jitter = random.Random()  # noqa: S311 - not the global one, whose state belongs to others
Progress = Callable[[int, int], None]


def upload(connect: Callable[[], Connection], path: str, source: Path, progress: Progress) -> Any:
    """Send a file in parts to `path`; the answer to the last one, as JSON.

    Raises:
        Unreachable: the server does not come back.
        CatchmentError: as the server says.
    """
    connection = connect()
    try:
        with _mapped(source) as whole:
            return _upload(connection, path, whole, progress)
    finally:
        connection.close()


@contextmanager
def _mapped(source: Path) -> Iterator[memoryview]:
    """The file's bytes, as the system reads them in; they are not copied before they are sent."""
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        whole = memoryview(mapped)
        try:
            yield whole
        finally:
            whole.release()


def _upload(connection: Connection, path: str, whole: memoryview, progress: Progress) -> Any:
    total, hashed = len(whole), 0
    sha, patience = hashlib.sha256(), Patience()
    stored = _offset(connection, path)
    while True:
        start = stored if stored < total else 0
        stop = min(total, start + PART_BYTES)
        if hashed < stop:
            sha.update(whole[hashed:stop])
            hashed = stop
        headers = {
            "Content-Range": f"bytes {start}-{stop - 1}/{total}",
            "Content-Type": "application/octet-stream",
        }
        if stop == total:
            headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(sha.digest()).decode()}:"
        try:
            status, found, content = connection.send("PUT", path, whole[start:stop], headers)
        except Unreachable:
            patience.lose()
            stored = _offset(connection, path)
            continue
        if status == 409 and "upload-offset" in found:
            patience.lose()
            stored = int(found["upload-offset"])
            continue
        if status >= 300:
            raise answered_error(status, content, "the upload")
        patience.gain()
        stored = int(found["upload-offset"])
        progress(stored, total)
        if stored == total:
            return json.loads(content)


def _offset(connection: Connection, path: str) -> int:
    """How much the server has; asked again for a while when it is away."""
    patience = Patience()
    while True:
        try:
            status, found, content = connection.send("HEAD", path, b"", {})
        except Unreachable:
            patience.lose()
            continue
        if status >= 300:
            raise answered_error(status, content, "the upload")
        return int(found.get("upload-offset", 0))


class Patience:
    """Waits longer after each loss, and gives up after too many in a row."""

    def __init__(self) -> None:
        self._lost = 0

    def gain(self) -> None:
        """Bytes have come through."""
        self._lost = 0

    def lose(self) -> None:
        """Wait; in an `except` block, the error goes on when it is the last straw."""
        self._lost += 1
        if self._lost >= TRIES:
            raise Unreachable(f"the transfer broke {self._lost} times in a row without a byte in between")
        time.sleep(PAUSE_S * 2 ** (self._lost - 1) * _jitter.uniform(0.5, 1.0))


def download(
    connect: Callable[[], Connection], path: str, target: Path, digest: str, size: int, progress: Progress
) -> None:
    """Fetch `path` to `target`, which appears when its digest is right; goes on with an earlier part of it.

    Raises:
        DigestMismatch: other bytes came; what had come is removed.
        Unreachable: the server does not come back.
        CatchmentError: as the server says.
    """
    part = target.with_name(f".{target.name}.{digest.removeprefix('sha256:')[:16]}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    sha = hashlib.sha256()
    with part.open("ab+") as file:
        done = _take_in(file, sha)

        def take(piece: bytes) -> None:
            file.write(piece)
            sha.update(piece)

        append_rest(connect(), path, f'"{digest}"', done, size, take, progress)
    actual = f"sha256:{sha.hexdigest()}"
    if actual != digest:
        part.unlink()
        raise DigestMismatch(digest, actual)
    part.replace(target)


def append_rest(
    connection: Connection,
    path: str,
    tag: str,
    done: int,
    size: int,
    take: Callable[[bytes], object],
    progress: Progress,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> None:
    """Take the bytes from `done` to `size` of what `path` names, however often the connection breaks.

    Args:
        connection: to the server.
        path: gives ranges.
        tag: ETag of the bytes.
        done: how many are there.
        size: how many there are.
        take: gets them in order.
        progress: told how far it is.
        method: of the requests.
        headers: of the requests.

    Raises:
        TransferError: the server has other bytes now.
        Unreachable: it does not come back.
        CatchmentError: as it says.
    """
    patience = Patience()
    while done < size:
        before = done
        wanted = {**(headers or {}), "Range": f"bytes={done}-", "If-Range": tag}
        try:
            with connection.receiving(path, wanted, method=method) as answer:
                if done and answer.status != 206:
                    raise TransferError("the server gives another file than before")
                while piece := answer.read(PIECE_BYTES):
                    take(piece)
                    done += len(piece)
                    progress(done, size)
            if done < size and done == before:
                patience.lose()
        except Unreachable:
            patience.gain() if done > before else None
            patience.lose()


def file_digest(path: Path) -> str:
    """`sha256:` and the SHA-256 of the file's bytes in hex."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _take_in(file: Any, sha: Any) -> int:
    """Hash what an earlier try has left; its size."""
    file.seek(0)
    done = 0
    while piece := file.read(PIECE_BYTES):
        sha.update(piece)
        done += len(piece)
    return done
