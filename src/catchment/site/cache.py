"""Blobs that were downloaded, by digest: each travels once, whatever works ask for it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from catchment import faults
from catchment.errors import DigestMismatch, OffsetMismatch, TransferError, Unreachable
from catchment.observe.site import SiteFigures
from catchment.wire.messages import Blob

Download = Callable[[Blob, int], Iterator[memoryview]]
"""A blob's bytes from an offset on; raises OffsetMismatch when the server cannot begin there."""

_UNTOUCHED_NS = 1_000_000_000
"""Modification time of every stored file. A script that writes into its hard link gives itself away."""
_STALE_PART_S = 86_400.0


class BlobCache:
    """A folder of verified, read-only files. Safe to use from several threads of one agent."""

    def __init__(self, folder: Path, max_bytes: int, figures: SiteFigures | None = None) -> None:
        self._folder = folder / "sha256"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._max_bytes = max_bytes
        self._lookups = (figures or SiteFigures()).cache
        self._lock = threading.Lock()
        self._digest_locks: dict[str, threading.Lock] = {}

    def link(self, blob: Blob, target: Path, download: Download) -> None:
        """Put the blob's bytes at `target`, read-only; download what is missing.

        A download that broke off is continued, now or by the next call, also after a restart.

        Raises:
            DigestMismatch: what arrived is not what was announced; it was thrown away.
            TransferError: more bytes than announced; they were thrown away.
            Unreachable: fewer bytes than announced; they are kept.
        """
        with self._lock:
            digest_lock = self._digest_locks.setdefault(blob.digest, threading.Lock())
        with digest_lock:
            path = self._folder / blob.digest.removeprefix("sha256:")
            there = _intact(path, blob.size_bytes)
            self._lookups.add("hit" if there else "miss")
            if not there:
                self._fetch(blob, path, download)
                self._make_room(keep=path)
            stat = path.stat()
            os.utime(path, ns=(time.time_ns(), stat.st_mtime_ns))
            _link(path, target)
        faults.reach("site_after_download")

    def _fetch(self, blob: Blob, path: Path, download: Download) -> None:
        part = path.with_suffix(".part")
        try:
            try:
                actual = _append(blob, part, download)
            except OffsetMismatch:
                part.unlink()
                actual = _append(blob, part, download)
        except TransferError:
            part.unlink(missing_ok=True)
            raise
        if actual != blob.digest:
            part.unlink()
            raise DigestMismatch(blob.digest, actual)
        part.chmod(0o444)
        os.utime(part, ns=(time.time_ns(), _UNTOUCHED_NS))
        part.replace(path)

    def _make_room(self, keep: Path) -> None:
        """Remove what was not used for longest until the rest fits. Links of works stay as they are."""
        with self._lock:
            self._remove_stale_parts()
            files = [(path.stat(), path) for path in self._folder.iterdir() if not path.suffix]
            files.sort(key=lambda item: item[0].st_atime_ns)
            total = sum(stat.st_size for stat, _ in files)
            for stat, path in files:
                if total <= self._max_bytes:
                    return
                if path != keep:
                    path.unlink()
                    total -= stat.st_size

    def _remove_stale_parts(self) -> None:
        oldest = time.time() - _STALE_PART_S
        for part in self._folder.glob("*.part"):
            # Another thread may finish, or give up, its download at this moment.
            with suppress(FileNotFoundError):
                if part.stat().st_mtime < oldest:
                    part.unlink()


def _append(blob: Blob, part: Path, download: Download) -> str:
    """Continue the file with what is missing of the blob; return the whole file's digest."""
    digest = hashlib.sha256()
    with part.open("a+b") as file:
        file.seek(0)
        while piece := file.read(1024 * 1024):
            digest.update(piece)
        size = file.tell()
        if size < blob.size_bytes or not blob.size_bytes:
            for received in download(blob, size):
                size += len(received)
                if size > blob.size_bytes:
                    raise TransferError(f"{blob.digest} is longer than the announced {blob.size_bytes} bytes")
                digest.update(received)
                file.write(received)
    if size < blob.size_bytes:
        raise Unreachable(f"the download broke off: {size} of {blob.size_bytes} bytes arrived")
    if size > blob.size_bytes:
        raise TransferError(f"{blob.digest} is longer than the announced {blob.size_bytes} bytes")
    return f"sha256:{digest.hexdigest()}"


def _intact(path: Path, size_bytes: int) -> bool:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    if stat.st_size == size_bytes and stat.st_mtime_ns == _UNTOUCHED_NS:
        return True
    path.unlink()
    return False


def _link(path: Path, target: Path) -> None:
    try:
        target.hardlink_to(path)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copyfile(path, target)
        target.chmod(0o444)
