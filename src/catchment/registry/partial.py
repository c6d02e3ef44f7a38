"""Bytes on their way into a folder of blobs: written aside, checked, synced, then renamed to their digest."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from catchment.durable import sync_folder
from catchment.errors import DigestMismatch, TransferError
from catchment.models.aside import NoSpace, is_at, writing
from catchment.registry.backend import CHUNK_BYTES, Chunk, Progress, Source
from catchment.registry.hashing import HashBeside


def receive(
    target: Path, folder: Path, digest: str, size: int, source: Source, progress: Progress | None = None
) -> None:
    """Write a source's bytes to `target`, which appears whole and synced, or not at all.

    What a killed process has left in `folder` is gone on with. Of two that fetch the same digest at a time,
    each has a file of its own.

    Raises:
        DigestMismatch: the bytes have another digest.
        TransferError: they are more or fewer than `size`.
        Unreachable: the disk is full, or fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _partial_file(folder, digest) as (file, path):
        try:
            _fill(file, digest, size, source, progress)
            with writing(folder):
                os.fsync(file.fileno())
        except (DigestMismatch, TransferError, NoSpace):
            path.unlink(missing_ok=True)
            raise
        os.fchmod(file.fileno(), 0o444)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    sync_folder(target.parent)


def _fill(file: BinaryIO, digest: str, size: int, source: Source, progress: Progress | None) -> None:
    with HashBeside() as sha256:
        done = _hash_what_is_there(file, size, sha256)
        if progress and done:
            progress(done)
        if done < size or not size:
            with source(done) as chunks:
                for chunk in chunks:
                    done += len(chunk)
                    if done > size:
                        raise TransferError(f"{digest} was announced with {size} bytes, more are sent")
                    sha256.update(chunk)
                    with writing(file.name):
                        _write_all(file, chunk)
                    sha256.settle()
                    if progress:
                        progress(done)
        if done != size:
            raise TransferError(f"{digest} was announced with {size} bytes, {done} came")
        if (actual := sha256.digest()) != digest:
            raise DigestMismatch(digest, actual)


def _write_all(file: BinaryIO, chunk: Chunk) -> None:
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]


def _hash_what_is_there(file: BinaryIO, size: int, sha256: HashBeside) -> int:
    """Hash what an earlier try has left; how much that is. More than there can be is thrown away."""
    if os.fstat(file.fileno()).st_size > size:
        file.truncate(0)
    file.seek(0)
    done = 0
    while chunk := file.read(CHUNK_BYTES):
        sha256.update(chunk)
        done += len(chunk)
    return done


@contextmanager
def _partial_file(folder: Path, digest: str) -> Iterator[tuple[BinaryIO, Path]]:
    """A file to write to, ours alone: the one of an earlier try, or a new one when another works on that."""
    path = folder / f"{digest.replace(':', '-')}.partial"
    while True:
        with path.open("a+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                break
            # Between opening and locking, another may have finished the file and renamed it.
            if is_at(file, path):
                yield file, path
                return
    path = folder / f"{digest.replace(':', '-')}.{secrets.token_hex(8)}.partial"
    try:
        with path.open("x+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file, path
    finally:
        path.unlink(missing_ok=True)
