"""Blobs on their way into a repository: begun, sent in parts, resumed, checked, kept.

An upload is a file in the staging folder whose name says which repository it is for; nothing else is
remembered of it. What no manifest has named within a day is removed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy import select

from catchment.catalog import artifact_rows, repositories
from catchment.errors import InvalidField, NotFound, OffsetMismatch
from catchment.jobs import namespaces, purge
from catchment.store import Store
from catchment.store.batch import Piece
from catchment.store.database import Transaction
from catchment.store.receiving import StagedUpload, StagedUploads, stored_bytes
from catchment.store.schema import artifact_blobs

KEPT_S = 24 * 3600.0
"""So long an upload may rest, and a blob wait for a manifest."""
_PREFIX = "oci-"
_uploads = StagedUploads()


def begin(store: Store, namespace: str, name: str) -> str:
    """A new upload to a repository; its id."""
    upload_id = uuid.uuid4().hex
    path = _path(store, namespace, name, upload_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)
    return upload_id


def offset(store: Store, namespace: str, name: str, upload_id: str) -> int:
    """How many bytes of an upload are stored. Raises NotFound."""
    return stored_bytes(_existing(store, namespace, name, upload_id))


def discard(store: Store, namespace: str, name: str, upload_id: str) -> None:
    """Forget an upload. Raises NotFound; TransferError while somebody sends it."""
    with _uploads.open(_existing(store, namespace, name, upload_id)) as upload:
        upload.discard()


async def append(
    store: Store,
    repository: tuple[str, str],
    upload_id: str,
    pieces: AsyncIterator[Piece],
    *,
    start: int | None = None,
    length: int | None = None,
) -> int:
    """Add bytes at an upload's end; how many are stored then.

    Args:
        store: the store.
        repository: namespace and name.
        upload_id: as `begin` gave it.
        pieces: the bytes.
        start: offset of the first, where the sender says it.
        length: how many come, where the sender says it.

    Raises:
        NotFound: no such upload.
        OffsetMismatch: `start` does not continue what is stored.
        InvalidField: it would become larger than models may be.
        TransferError: the bytes stop, or come by two requests at once.
    """
    path = _existing(store, *repository, upload_id)
    with _uploads.open(path) as upload:
        return await _append(store, upload, pieces, start, length)


async def _append(
    store: Store, upload: StagedUpload, pieces: AsyncIterator[Piece], start: int | None, length: int | None
) -> int:
    stored, most = upload.stored, store.settings.max_model_bytes
    if start not in (None, stored):
        raise OffsetMismatch(stored, start or 0)
    if stored + (length or 0) > most:
        raise InvalidField("size", f"up to {most} bytes are taken, not {stored + (length or 0)}")
    return await upload.append(_within(pieces, most - stored), start=stored, total=2**62)


async def _within(pieces: AsyncIterator[Piece], left: int) -> AsyncIterator[Piece]:
    async for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise InvalidField("size", "more bytes arrive than a model may have")
        yield piece


async def finish(
    store: Store,
    repository: tuple[str, str],
    upload_id: str,
    digest: str,
    pieces: AsyncIterator[Piece],
    *,
    start: int | None = None,
    length: int | None = None,
) -> None:
    """Add the last bytes, which may be none, and keep the whole as a blob of the repository.

    Arguments and errors as `append`; and

    Raises:
        DigestMismatch: it is not what `digest` says; the upload is gone.
        NotFound: the namespace is gone.
        Unreachable: the storage does not take it.
    """
    path = _existing(store, *repository, upload_id)
    with _uploads.open(path) as upload:
        await _append(store, upload, pieces, start, length)
        await asyncio.to_thread(_keep, store, repository, upload, digest)


def _keep(store: Store, repository: tuple[str, str], upload: StagedUpload, digest: str) -> None:
    upload.finish(digest)
    size = upload.stored
    store.blobs.prepare(upload.path, digest)

    def step(tx: Transaction) -> None:
        purge.lock_blobs(tx, [digest], shared=True)
        namespaces.require(tx, repository[0])
        known = artifact_rows.find(tx, *repository, digest)
        if known is None or known.stored:  # else it is made from a version's files
            if upload.path.exists():  # else an earlier try of this transaction has put it
                store.blobs.put_file(upload.path, digest)
            purge.hold_blobs(store, tx, [digest])
        artifact_rows.put(tx, repository, digest, size, "blob")

    store.db.write(step)
    upload.discard()


def mount(store: Store, repository: tuple[str, str], digest: str, source: tuple[str, str]) -> bool:
    """Give a repository a blob that another one has; False when that has none, or none that is stored."""
    try:
        found = repositories.find_blob(store, *source, digest)
    except NotFound:
        return False
    if not isinstance(found.bytes_of, Path):
        return False

    def step(tx: Transaction) -> None:
        purge.hold_blobs(store, tx, [digest])
        namespaces.require(tx, repository[0])
        artifact_rows.put(tx, repository, digest, found.size, "blob")

    store.db.write(step)
    return True


def touch(store: Store, repository: tuple[str, str], digest: str) -> None:
    """Somebody saw that the blob is there and will not send it: the day begins anew."""

    def step(tx: Transaction) -> None:
        row = artifact_rows.find(tx, *repository, digest, lock=True)
        if row is not None and row.kind == "blob" and row.created_at < tx.now - KEPT_S / 24:
            artifact_rows.put(tx, repository, digest, row.size_bytes, "blob")

    store.db.write(step)


def collect(store: Store) -> int:
    """Remove uploads that rest, and blobs that no manifest has named, for longer than a day; how many."""
    table = artifact_blobs.c

    def step(tx: Transaction) -> set[str]:
        old = (table.kind == "blob") & (table.created_at < tx.now - KEPT_S)
        waiting = select(artifact_blobs).where(old).with_for_update()
        # The time may have jumped, so that what is new looks old.
        rows = [row for row in tx.execute(waiting) if tx.has_passed(row.created_at, KEPT_S)]
        for row in rows:
            artifact_rows.remove(tx, row.namespace, row.name, row.digest)
        return {row.digest for row in rows}

    gone = store.db.write(step)
    purge.delete_unreferenced(store, gone)
    count = len(gone)
    for path in store.blobs.staging_folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if not _uploads.is_open(path) and path.stat().st_mtime < time.time() - KEPT_S:
                path.unlink()
                count += 1
    return count


def _existing(store: Store, namespace: str, name: str, upload_id: str) -> Path:
    if re.fullmatch("[0-9a-f]{32}", upload_id):
        path = _path(store, namespace, name, upload_id)
        if path.exists():
            return path
    raise NotFound(f"the repository {namespace}/{name} has no such upload; begin a new one")


def _path(store: Store, namespace: str, name: str, upload_id: str) -> Path:
    repository = hashlib.sha256(f"{namespace}/{name}".encode()).hexdigest()[:16]
    return store.blobs.staging_folder / f"{_PREFIX}{repository}-{upload_id}"
