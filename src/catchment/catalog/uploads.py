"""A version's file on its way in through the API: in chunks, resumable, checked before it is ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import Row

from catchment.catalog import manager, removal, rows, views
from catchment.catalog.audit import Actor
from catchment.catalog.content import Arrived, complete, fail
from catchment.catalog.rows import VersionFile
from catchment.catalog.spec import FILE_NAME
from catchment.catalog.states import ModelState
from catchment.errors import DigestMismatch, InvalidField, Refused, WrongState
from catchment.store import Store
from catchment.store.batch import Piece
from catchment.store.database import Transaction
from catchment.store.receiving import StagedUpload, StagedUploads, stored_bytes

TOUCH_S = 5.0
"""How often a long upload is written down as alive."""
_uploads = StagedUploads()


def offset(store: Store, model_id: str) -> int:
    """How many bytes of an upload are stored; all of them once the version is ready. Raises NotFound."""
    row = store.db.read(lambda tx: rows.by_id(tx, model_id))
    if row.state == ModelState.READY:
        return int(row.size_bytes)
    return stored_bytes(removal.staged_upload(store, model_id))


async def receive(
    store: Store,
    model_id: str,
    actor: Actor,
    *,
    start: int,
    total: int,
    digest: str | None,
    pieces: AsyncIterator[Piece],
    file_name: str | None = None,
) -> tuple[dict[str, Any], int]:
    """Append bytes `start`.. of the version's file; once all `total` are there, check it and make it ready.

    Returns the ModelDetail, and how many bytes are stored.

    Args:
        store: the store.
        model_id: the version's id.
        actor: who sends it.
        start: offset of the first byte that arrives.
        total: size of the whole file.
        digest: what the whole must have, `sha256:...`; None to take what comes.
        pieces: the bytes.
        file_name: the file's name, for a version that was created without one.

    Raises:
        NotFound: no such version.
        InvalidField: the size is none that is taken, or a name is missing or another one.
        WrongState: the version's bytes are there already, or come another way.
        OffsetMismatch: `start` does not continue what is stored.
        DigestMismatch: the whole is not what was announced; the upload begins anew.
        TransferError: the bytes stop, are more than announced, or come by two requests at once.
    """
    if not 0 < total <= store.settings.max_model_bytes:
        raise InvalidField(
            "Content-Range", f"1 to {store.settings.max_model_bytes} bytes are taken, not {total}"
        )
    row = await asyncio.to_thread(store.db.write, lambda tx: _wanted(tx, model_id, digest, file_name))
    if row.state == ModelState.READY:
        return views.detail(row), total
    with _uploads.open(removal.staged_upload(store, model_id)) as upload:
        stored = await upload.append(_touching(store, row, pieces, start, total), start=start, total=total)
        if stored == total:
            return await asyncio.to_thread(_keep, store, row, upload, digest, actor), stored
    await asyncio.to_thread(manager.touch, store, model_id, 100 * stored // total)
    return await asyncio.to_thread(manager.get_by_id, store, model_id), stored


def _wanted(tx: Transaction, model_id: str, digest: str | None, file_name: str | None) -> Row[Any]:
    """The version that bytes may be sent to, unready from now on; a ready one that has them already."""
    row = rows.by_id(tx, model_id, lock=True)
    named = f"version {row.version!r} of model {row.name!r}"
    if row.state == ModelState.READY and digest is not None and digest == row.digest:
        return row
    if row.state in (ModelState.READY, ModelState.DELETING):
        raise WrongState(f"{named} is {row.state}; its bytes cannot be changed, upload a new version")
    if row.model_path is not None:
        raise WrongState(f"the bytes of {named} are copied from its model_path; nothing can be uploaded")
    if row.file_name is None and file_name is None:
        raise InvalidField("file_name", f"is required: {named} was created without one")
    if file_name is not None and not FILE_NAME.fullmatch(file_name):
        raise InvalidField("file_name", f"{file_name!r} is no name of a file")
    if row.file_name is not None and file_name not in (None, row.file_name):
        raise InvalidField("file_name", f"is {file_name!r}, {named} was created with {row.file_name!r}")
    values = {"file_name": row.file_name or file_name, "reported": False, "touched_at": tx.now}
    rows.change(tx, model_id, state=ModelState.UNREADY, error="", **values)
    return rows.by_id(tx, model_id)


async def _touching(
    store: Store, row: Row[Any], pieces: AsyncIterator[Piece], start: int, total: int
) -> AsyncIterator[Piece]:
    """The pieces; now and then it is written down how far they are."""
    done, told = start, time.monotonic()
    async for piece in pieces:
        yield piece
        done += len(piece)
        if time.monotonic() - told >= TOUCH_S:
            told = time.monotonic()
            await asyncio.to_thread(manager.touch, store, row.id, 100 * done // total)


def _keep(
    store: Store, row: Row[Any], upload: StagedUpload, digest: str | None, actor: Actor
) -> dict[str, Any]:
    """Check what has arrived, and make the version ready with it."""
    size = upload.stored
    actual = digest or upload.digest()
    try:
        upload.finish(actual)
        complete(store, row.id, [Arrived(VersionFile(row.file_name, actual, size), upload.path)], actor)
    except (DigestMismatch, Refused) as error:
        fail(store, row.id, str(error))
        raise
    return manager.get_by_id(store, row.id)
