"""A version's bytes: how they become its files, and how others get hold of them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import Row

from catchment import faults
from catchment.catalog import audit, packed, rows
from catchment.catalog.audit import Actor
from catchment.catalog.rows import VersionFile
from catchment.catalog.states import ModelState
from catchment.errors import FormatMismatch, InvalidField, NotFound, Refused, WrongState
from catchment.jobs import purge
from catchment.models import formats
from catchment.store import Store
from catchment.store.database import Transaction


@dataclass(frozen=True)
class Arrived:
    """A file that is there, in the staging folder, with the digest that its bytes have."""

    file: VersionFile
    staged: Path


def complete(
    store: Store,
    model_id: str,
    arrived: list[Arrived],
    actor: Actor,
    *,
    owner: str | None = None,
    **values: Any,
) -> bool:
    """Make arrived files the version's bytes, and the version ready.

    Args:
        store: the store.
        model_id: the version's id.
        arrived: its files, at least one; digests are right, whoever calls this has computed them.
        actor: who brought them.
        owner: holder of the version's lease, where only that one may do this.
        values: further columns.

    Returns whether it is ready by this call; False when it was ready with the same bytes before. Staged files
    stay when the database or the storage fails: trying again helps.

    Raises:
        NotFound: it was deleted.
        WrongState: it is ready with other bytes, being deleted, or looked after by somebody else.
        Unreachable: the storage does not take the bytes.
    """
    files = [each.file for each in arrived]
    digests = [file.digest for file in files]
    for each in arrived:
        if each.staged.exists():
            store.blobs.prepare(each.staged, each.file.digest)

    def step(tx: Transaction) -> bool:
        purge.lock_blobs(tx, digests, shared=True)
        for each in arrived:
            if each.staged.exists():  # else an earlier try of this transaction has put it
                store.blobs.put_file(each.staged, each.file.digest)
        purge.hold_blobs(store, tx, digests)
        faults.reach("before_ready")
        row = rows.by_id(tx, model_id)
        if len(files) == 1 and (path := rows.storage_path(row)) is not None:
            store.files.show_file(row.namespace, path, store.blobs.local_path(digests[0]))
        return _made_ready(tx, rows.by_id(tx, model_id, lock=True), files, actor, owner, values)

    try:
        made = store.db.write(step)
    except (Refused, NotFound):
        _forget(store, arrived)
        raise
    for each in arrived:
        each.staged.unlink(missing_ok=True)
    return made


def _forget(store: Store, arrived: list[Arrived]) -> None:
    """Remove what is left in the staging folder, and blobs that nobody refers to after all."""
    for each in arrived:
        each.staged.unlink(missing_ok=True)
    purge.delete_unreferenced(store, {each.file.digest for each in arrived})


def _made_ready(
    tx: Transaction,
    row: Row[Any],
    files: list[VersionFile],
    actor: Actor,
    owner: str | None,
    values: dict[str, Any],
) -> bool:
    named = f"version {row.version!r} of model {row.name!r}"
    if row.state == ModelState.READY and row.digest == rows.tree_digest(files):
        return False
    if row.state in (ModelState.READY, ModelState.DELETING):
        raise WrongState(f"{named} is {row.state}; its bytes cannot be changed")
    if not row.format and "format" not in values:
        values["format"] = _format_of(files)
    if owner is not None and row.lease_owner != owner:
        raise WrongState(f"{named} is looked after by another process now")
    rows.set_files(tx, row.id, files)
    rows.change(tx, row.id, **rows.ready_values(files) | values)
    audit.write(tx, row, "ready", actor, digest=rows.tree_digest(files))
    return True


def _format_of(files: list[VersionFile]) -> str:
    """The format that the files are by their names; none where that says little.

    A `.pt` may hold a program or nothing but tensors.
    """
    try:
        found = formats.infer([file.path for file in files]).name
    except FormatMismatch:
        return ""
    return "" if found in ("Others", "TorchScript") else found


def fail(store: Store, model_id: str, words: str, *, owner: str | None = None) -> None:
    """Make an unready version an `error` with these words, unless somebody else looks after it now."""

    def step(tx: Transaction) -> None:
        row = rows.by_id(tx, model_id, lock=True)
        if row.state != ModelState.UNREADY or (owner is not None and row.lease_owner != owner):
            return
        free = {"lease_owner": None, "lease_until": 0.0, "reported": False}
        rows.change(tx, model_id, state=ModelState.ERROR, error=words[:2000], **free)
        audit.write(tx, row, "error", Actor(), reason=words[:2000])

    store.db.write(step)


def require_ready(tx: Transaction, row: Row[Any]) -> list[VersionFile]:
    """The files of a version that may be used. Raises WrongState for one that is not ready."""
    if row.state != ModelState.READY:
        why = f": {row.error}" if row.error else ""
        raise WrongState(f"version {row.version!r} of model {row.name!r} is {row.state}, not ready{why}")
    if held := (row.artifact or {}).get("held"):
        raise WrongState(f"the bytes of version {row.version!r} of model {row.name!r} are kept by {held}")
    return rows.files_of(tx, [row.id]).get(row.id, [])


def file_of(store: Store, model_id: str, path: str | None) -> VersionFile:
    """The one file of a ready version, or the one at `path`.

    Raises:
        NotFound: no such version, or no such file in it.
        InvalidField: it has several files, and none is named.
        WrongState: it is not ready.
    """
    files = store.db.read(lambda tx: require_ready(tx, rows.by_id(tx, model_id)))
    if path is None and len(files) == 1:
        return files[0]
    names = ", ".join(file.path for file in files[:20])
    if path is None:
        raise InvalidField("file", f"is required: the version has {len(files)} files: {names}")
    for file in files:
        if file.path == path:
            return file
    raise NotFound(f"the version has no file {path!r}, only {names}")


@contextlib.contextmanager
def opened(store: Store, file: VersionFile) -> Iterator[Path]:
    """A local file with a version's file's bytes, under its own name, for the time of a `with` block.

    What lies in a packed layer is unpacked for it, beside the blobs, where there is room for models.

    Raises:
        NotFound: the storage has lost it.
        DigestMismatch: the storage gives other bytes.
    """
    beside = store.blobs.staging_folder if file.layer is not None else None
    if beside is not None:
        beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="catchment-model-", dir=beside) as folder:
        path = Path(folder) / PurePosixPath(file.path).name
        if file.layer is None:
            path.symlink_to(store.blobs.local_path(file.digest).absolute())
        else:
            packed.unpack(store, file, path)
        yield path
