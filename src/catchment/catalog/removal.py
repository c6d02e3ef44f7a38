"""Removing versions that are DELETING: their file in the namespace's folder, their rows, their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Row, delete, select

from catchment.catalog import artifact_rows, rows
from catchment.catalog.states import ModelState
from catchment.errors import NotFound
from catchment.jobs import namespaces, purge
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import checkpoints, model_files, model_versions


def remove(store: Store, model_id: str) -> None:
    """Remove all of a DELETING version. Safe to repeat; the rows go last but the blobs."""
    try:
        row, files = store.db.read(
            lambda tx: (rows.by_id(tx, model_id), rows.files_of(tx, [model_id]).get(model_id, []))
        )
    except NotFound:
        return
    if row.state != ModelState.DELETING:
        return
    saved = store.db.read(lambda tx: _checkpoint(tx, row))
    if saved is not None:
        store.files.delete_tree(row.namespace, saved.path.rpartition("/")[0])
    store.files.delete_tree(row.namespace, f"model-versions/{row.name}/{row.version}")
    staged_upload(store, model_id).unlink(missing_ok=True)

    def step(tx: Transaction) -> set[str]:
        namespaces.require(tx, row.namespace, for_update=True)  # no push takes over what is dropped here
        if saved is not None:
            mine = (checkpoints.c.job_uid == saved.job_uid) & (checkpoints.c.number == saved.number)
            tx.execute(delete(checkpoints).where(mine))
        tx.execute(delete(model_files).where(model_files.c.version_id == model_id))
        tx.execute(delete(model_versions).where(model_versions.c.id == model_id))
        tx.notify(rows.topic(model_id))
        return artifact_rows.drop(tx, [row])

    dropped = store.db.write(step)
    states = {saved.state} if saved is not None else set()
    held = {file.layer or file.digest for file in files}
    purge.delete_unreferenced(store, held | dropped | (states | {row.manifest}) - {None})


def staged_upload(store: Store, model_id: str) -> Path:
    """Where the bytes of an upload gather until it is complete."""
    return store.blobs.staging_folder / f"model-{model_id}"


def _checkpoint(tx: Transaction, row: Row[Any]) -> Row[Any] | None:
    """The checkpoint that a version is, if it is one."""
    digits = row.version.removeprefix("checkpoint_v")
    if row.job_uid is None or not digits.isdigit():
        return None
    mine = (checkpoints.c.job_uid == row.job_uid) & (checkpoints.c.number == int(digits))
    return tx.execute(select(checkpoints).where(mine)).first()
