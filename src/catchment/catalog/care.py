"""What happens to versions by itself: copies, hashing where bytes lie, uploads that stalled, removals.

A version is looked after by one process at a time, under a lease that it renews while bytes flow; when it
dies, another one begins again.
"""

from __future__ import annotations

import logging
import secrets
import time
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import ColumnElement, Row, select

from catchment import faults
from catchment.catalog import removal, rows
from catchment.catalog.audit import Actor
from catchment.catalog.content import Arrived, complete, fail
from catchment.catalog.copying import copy_with_digest
from catchment.catalog.rows import VersionFile
from catchment.catalog.states import ModelState
from catchment.errors import CatchmentError, NotFound, Refused, Unreachable, WrongState
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_versions

log = logging.getLogger(__name__)
LEASE_S = 30.0
TELL_S = 0.5
"""How often a copy writes down how far it is, at most."""
_table = model_versions.c


def look_after(store: Store) -> bool:
    """Do the next thing that versions need; False when there was nothing to do.

    A storage that does not answer leaves the version as it is; it is tried again at the next look.
    """
    _give_up_stalled(store)
    for model_id in _deleting(store):
        removal.remove(store, model_id)
    owner = secrets.token_hex(16)
    row = store.db.write(lambda tx: _claimed(tx, owner))
    if row is None:
        return False
    try:
        _bring(store, row, owner)
    except (NotFound, Refused) as error:
        fail(store, row.id, str(error), owner=owner)
    except (Unreachable, OSError) as error:
        words = f"tried again soon: {error}"[:2000]
        log.warning("model=%s/%s version=%s %s", row.namespace, row.name, row.version, words)
        store.db.write(lambda tx: _retry_later(tx, row, owner, words))
    except CatchmentError as error:
        fail(store, row.id, str(error), owner=owner)
    return True


def _to_bring() -> ColumnElement[bool]:
    return (_table.state == ModelState.UNREADY) & (_table.model_path.is_not(None) | _table.reported)


def _claimed(tx: Transaction, owner: str) -> Row[Any] | None:
    """The oldest version with something to copy or to hash, now under a lease of ours."""
    waiting = select(model_versions).where(_to_bring()).order_by(_table.touched_at)
    for row in tx.execute(waiting.limit(100).with_for_update(skip_locked=True)):
        if row.lease_until == 0.0 or tx.has_passed(row.lease_until - LEASE_S, LEASE_S):
            rows.change(tx, row.id, lease_owner=owner, lease_until=tx.now + LEASE_S, touched_at=tx.now)
            return row
    return None


def _retry_later(tx: Transaction, row: Row[Any], owner: str, words: str) -> None:
    """Keep the lease to its end, so that a storage that is away is not asked all the time."""
    if rows.by_id(tx, row.id, lock=True).lease_owner == owner:
        rows.change(tx, row.id, error=words)


def _bring(store: Store, row: Row[Any], owner: str) -> None:
    """Copy or take the version's file, with its digest, and make it ready."""
    staged = store.blobs.staging_folder / f"brought-{row.id}"
    staged.parent.mkdir(parents=True, exist_ok=True)
    told = _Progress(store, row, owner)
    path = row.model_path or rows.storage_path(row)
    assert path is not None  # noqa: S101 - only versions with a file_name are ever reported
    if row.model_path is not None:
        with store.files.fetched(row.namespace, path) as source:
            digest, size = copy_with_digest(source, staged, told)
    else:
        store.files.take_file(row.namespace, path, staged)
        digest, size = copy_with_digest(staged, None, told)
    if not size:
        staged.unlink()
        raise Refused(f"{path!r} is an empty file")
    faults.reach("mid_copy")
    file = VersionFile(row.file_name or PurePosixPath(path).name, digest, size)
    complete(store, row.id, [Arrived(file, staged)], Actor(), owner=owner)


class _Progress:
    """Writes down how far a copy is, now and then, and renews its lease; ends it when it is not wanted."""

    def __init__(self, store: Store, row: Row[Any], owner: str) -> None:
        self._store = store
        self._row = row
        self._owner = owner
        self._told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._told < TELL_S:
            return
        self._told = time.monotonic()
        self._store.db.write(lambda tx: self._tell(tx, min(99, 100 * done // max(1, total))))

    def _tell(self, tx: Transaction, progress: int) -> None:
        row = rows.by_id(tx, self._row.id, lock=True)
        if row.state != ModelState.UNREADY or row.lease_owner != self._owner:
            raise WrongState(f"version {row.version!r} of model {row.name!r} is not copied any more")
        ahead = {"lease_until": tx.now + LEASE_S, "touched_at": tx.now}
        rows.change(tx, row.id, progress=max(progress, row.progress), error="", **ahead)


def _give_up_stalled(store: Store) -> None:
    """Uploads that nothing was heard of for too long become errors; sending the rest makes them go on."""
    limit = store.settings.upload_stall_s

    def step(tx: Transaction) -> list[Row[Any]]:
        waits = select(model_versions).where(_table.state == ModelState.UNREADY, ~_to_bring())
        old = waits.where(_table.touched_at < tx.now - limit)
        return [row for row in tx.execute(old) if tx.has_passed(row.touched_at, limit)]

    for row in store.db.read(step):
        arrived = f"{row.progress} % had arrived" if row.progress else "nothing had arrived"
        silent = f"the upload stalled: nothing was heard of it for {limit:g} s, {arrived}"
        fail(store, row.id, f"{silent}; it goes on when the rest is sent")


def _deleting(store: Store) -> list[str]:
    statement = select(_table.id).where(_table.state == ModelState.DELETING).limit(100)
    return list(store.db.read(lambda tx: tx.execute(statement).scalars().all()))
