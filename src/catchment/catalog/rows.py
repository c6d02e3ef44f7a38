"""Reading and moving rows of model versions: the few statements that every rule about them is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from catchment.catalog.states import ModelState
from catchment.errors import NotFound
from catchment.models.files import version_digest
from catchment.store.database import Transaction
from catchment.store.schema import model_files, model_versions

TOPIC = "models"
"""Heard by whoever looks after versions: there is something to copy, to hash or to remove."""


@dataclass(frozen=True)
class VersionFile:
    """One file of a version: its path below the model's folder, and its bytes by digest.

    `layer`: the blob, a packed layer, that holds it; None where the file is a blob itself.
    """

    path: str
    digest: str
    size_bytes: int
    crc32: int | None = None
    layer: str | None = None


def topic(model_id: str) -> str:
    """What watchers of one version listen to."""
    return f"model:{model_id}"


def find(tx: Transaction, namespace: str, name: str, version: str, *, lock: bool = False) -> Row[Any] | None:
    """A version's row; with `lock` nobody else moves it until the transaction ends."""
    mine = (
        (model_versions.c.namespace == namespace)
        & (model_versions.c.name == name)
        & (model_versions.c.version == version)
    )
    statement = select(model_versions).where(mine)
    return tx.execute(statement.with_for_update() if lock else statement).first()


def require(tx: Transaction, namespace: str, name: str, version: str, *, lock: bool = False) -> Row[Any]:
    """`find`, or NotFound."""
    row = find(tx, namespace, name, version, lock=lock)
    if row is None:
        raise NotFound(f"model {name!r} has no version {version!r} in namespace {namespace!r}")
    return row


def by_id(tx: Transaction, model_id: str, *, lock: bool = False) -> Row[Any]:
    """A version's row by its id, or NotFound."""
    statement = select(model_versions).where(model_versions.c.id == model_id)
    row = tx.execute(statement.with_for_update() if lock else statement).first()
    if row is None:
        raise NotFound(f"there is no model with the id {model_id!r}")
    return row


def of_checkpoint(tx: Transaction, job_uid: str, version: str) -> str | None:
    """Id of a job's checkpoint as a version; `version` is `checkpoint_v1` and so on."""
    mine = (model_versions.c.job_uid == job_uid) & (model_versions.c.version == version)
    return tx.execute(select(model_versions.c.id).where(mine)).scalar()


def change(tx: Transaction, model_id: str, **values: Any) -> None:
    """Set columns of a version; watchers hear of it."""
    mine = model_versions.c.id == model_id
    tx.execute(update(model_versions).where(mine).values(updated_at=tx.now, **values))
    tx.notify(topic(model_id))


def files_of(tx: Transaction, model_ids: Iterable[str]) -> dict[str, list[VersionFile]]:
    """The files of some versions, in the order of their paths."""
    found: dict[str, list[VersionFile]] = {}
    mine = model_files.c.version_id.in_(list(model_ids))
    for row in tx.execute(select(model_files).where(mine).order_by(model_files.c.path)):
        kept = VersionFile(row.path, row.digest, row.size_bytes, row.crc32, row.layer)
        found.setdefault(row.version_id, []).append(kept)
    return found


def set_files(tx: Transaction, model_id: str, files: Iterable[VersionFile]) -> None:
    """Say which files a version has. Their blobs are held by the same transaction (jobs.purge.hold_blobs)."""
    tx.execute(delete(model_files).where(model_files.c.version_id == model_id))
    new = [{"version_id": model_id, **file.__dict__} for file in files]
    if new:
        tx.execute(insert(model_files), new)


def ready_values(files: list[VersionFile]) -> dict[str, Any]:
    """The columns of a version whose bytes are there and hold."""
    return {
        "state": ModelState.READY,
        "progress": 100,
        "error": "",
        "digest": tree_digest(files),
        "size_bytes": sum(file.size_bytes for file in files),
        "reported": False,
        "lease_owner": None,
        "lease_until": 0.0,
    }


def tree_digest(files: list[VersionFile]) -> str:
    """The digest of a version with these files."""
    return version_digest({file.path: file.digest for file in files})


def storage_path(row: Row[Any]) -> str | None:
    """Where in the namespace's folder the version's file lies, or may be put; None where it has several."""
    return None if row.file_name is None else f"model-versions/{row.name}/{row.version}/{row.file_name}"
