"""Removing a job: its folders, its rows, and the blobs that nothing else refers to."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Column, cast, delete, func, select, union

from catchment.catalog import artifact_rows, audit
from catchment.errors import NotFound, TransferError
from catchment.jobs import rows
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import (
    artifact_blobs,
    checkpoints,
    job_logs,
    jobs,
    model_files,
    model_job_files,
    model_versions,
    prepared_files,
    rounds,
    secagg_messages,
    works,
)

REFERENCES: tuple[tuple[Column[Any], Column[Any] | None], ...] = (
    (jobs.c.initial_weights, jobs.c.uid),
    (jobs.c.initial_state, jobs.c.uid),
    (rounds.c.weights, rounds.c.job_uid),
    (rounds.c.new_weights, rounds.c.job_uid),
    (rounds.c.state_before, rounds.c.job_uid),
    (rounds.c.new_state, rounds.c.job_uid),
    (rounds.c.aggregated, rounds.c.job_uid),
    (works.c.update, works.c.job_uid),
    (works.c.files, works.c.job_uid),
    (prepared_files.c.digest, prepared_files.c.job_uid),
    (checkpoints.c.digest, checkpoints.c.job_uid),
    (checkpoints.c.state, checkpoints.c.job_uid),
    (model_files.c.digest, None),
    (model_files.c.layer, None),
    (model_versions.c.manifest, None),
    (artifact_blobs.c.digest, None),
    (model_job_files.c.digest, None),
)
"""Columns that hold digests of blobs, each with the column of the job that it belongs to, if it does."""
DELETED_AT_ONCE = 50
"""So many blobs are removed in one transaction: each of them has a lock."""


def purge_job(store: Store, uid: str) -> None:
    """Remove all that a DELETING job made. Safe to repeat; the rows go last but the blobs."""
    try:
        row = store.db.read(lambda tx: rows.by_uid(tx, uid))
    except NotFound:
        return
    for folder in row.run_folders:
        store.files.delete_tree(row.namespace, folder)
    digests = store.db.read(lambda tx: _digests(tx, uid, row))
    for work_id in store.db.read(
        lambda tx: tx.execute(select(works.c.id).where(works.c.job_uid == uid)).scalars().all()
    ):
        for part in ("update", "files"):
            (store.blobs.staging_folder / f"{part}-{work_id}").unlink(missing_ok=True)

    remove_extender_folders(store, uid)

    def step(tx: Transaction) -> set[str]:
        rows.cancel_open_works(tx, uid, "the job was deleted")
        dropped = _remove_versions(tx, uid)
        for table in (works, rounds, prepared_files, secagg_messages, checkpoints, job_logs):
            tx.execute(delete(table).where(table.c.job_uid == uid))
        tx.execute(delete(jobs).where(jobs.c.uid == uid))
        tx.notify(rows.topic(uid))
        return dropped

    dropped = store.db.write(step)
    delete_unreferenced(store, digests | dropped)


def _remove_versions(tx: Transaction, uid: str) -> set[str]:
    """Remove the model versions that are the job's checkpoints; digests of what their artifacts were made of.

    What it registered under a name stays.
    """
    mine = tx.execute(select(model_versions).where(model_versions.c.job_uid == uid)).all()
    for version in mine:
        audit.write(tx, version, "delete", audit.Actor(), reason="its job was deleted")
    tx.execute(delete(model_files).where(model_files.c.version_id.in_([version.id for version in mine])))
    tx.execute(delete(model_versions).where(model_versions.c.job_uid == uid))
    return artifact_rows.drop(tx, mine)


def extender_folder(store: Store, uid: str) -> Path:
    """A name for the folder of one call of the job's extenders; on the file system of the blobs."""
    return store.blobs.staging_folder / f"extender-{uid}-{secrets.token_hex(8)}"


def remove_extender_folders(store: Store, uid: str) -> None:
    """Remove what calls left behind whose process was killed."""
    for folder in store.blobs.staging_folder.glob(f"extender-{uid}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _digests(tx: Transaction, uid: str, row: Any) -> set[str]:
    # "" stands where a digest was: what it named is gone already.
    statements = [
        select(column).where(owner == uid, column.is_not(None), column != "")
        for column, owner in REFERENCES
        if owner is not None
    ]
    found = set(tx.execute(union(*statements)).scalars())
    if row.sent_scripts:
        found.add(row.sent_scripts["archive"]["digest"])
    if row.extender:
        found.add(row.extender["archive"])
    return found


def hold_blobs(store: Store, tx: Transaction, digests: Iterable[str | None]) -> None:
    """To be called first in a transaction that refers to blobs: nobody deletes them until it commits.

    Bytes that are equal are one blob. Without this, whoever drops the last reference to it could remove it
    between the moment when its next owner finds it in the store and the moment when he writes that down.
    First, because the storage may be slow: no row is locked yet.

    Raises:
        TransferError: one of them was removed before; it has to be made again.
    """
    wanted = {digest for digest in digests if digest is not None}
    lock_blobs(tx, wanted, shared=True)
    for digest in wanted:
        if not store.blobs.exists(digest):
            raise TransferError(f"blob {digest} was removed while it was being kept; it has to be made again")


def lock_blobs(tx: Transaction, digests: Collection[str], *, shared: bool) -> None:
    """Keep others from deleting the blobs, or, not `shared`, also from referring to them anew."""
    if tx.connection.dialect.name != "postgresql":
        return  # SQLite has one writer at a time anyway
    lock = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
    # In one order, so that two do not wait for each other; a scan of a function goes through it in order.
    keys = [
        int.from_bytes(hashlib.sha256(digest.encode()).digest()[:8], "big", signed=True)
        for digest in sorted(digests)
    ]
    key = func.unnest(cast(keys, ARRAY(BigInteger))).column_valued("key")
    tx.execute(select(lock(key)))


def delete_unreferenced(store: Store, digests: set[str]) -> None:
    """Remove those blobs that no row refers to any more."""
    ordered = sorted(digests)
    for start in range(0, len(ordered), DELETED_AT_ONCE):
        some = set(ordered[start : start + DELETED_AT_ONCE])

        def step(tx: Transaction, some: set[str] = some) -> None:
            lock_blobs(tx, some, shared=False)
            for digest in some - _used(tx, some):
                store.blobs.delete(digest)

        store.db.write(step)


def _used(tx: Transaction, digests: set[str]) -> set[str]:
    return set(owners(tx, digests))


def owners(tx: Transaction, digests: set[str]) -> dict[str, str]:
    """Those of the digests that something refers to, each with the table that does, such as `model_files`."""
    used = {
        digest: column.table.name
        for column, _ in reversed(REFERENCES)
        for digest in tx.execute(select(column).where(column.in_(digests))).scalars()
    }
    sent = tx.execute(select(jobs.c.sent_scripts).where(jobs.c.sent_scripts.is_not(None))).scalars()
    packed = tx.execute(select(jobs.c.extender).where(jobs.c.extender.is_not(None))).scalars()
    archives = {scripts["archive"]["digest"] for scripts in sent if scripts}
    archives |= {extender["archive"] for extender in packed if extender}
    return dict.fromkeys(archives & digests, "jobs") | used


def checkpoint_paths(tx: Transaction, uid: str) -> dict[str, str]:
    """A job's checkpoints: id -> path, oldest first."""
    found = tx.execute(
        select(checkpoints.c.number, checkpoints.c.path)
        .where(checkpoints.c.job_uid == uid)
        .order_by(checkpoints.c.number)
    )
    return {f"checkpoint_v{number}": path for number, path in found}


def checkpoint_states(tx: Transaction, uid: str) -> dict[str, str]:
    """States of strategies that a job's checkpoints were saved with: id -> digest."""
    found = tx.execute(
        select(checkpoints.c.number, checkpoints.c.state).where(
            checkpoints.c.job_uid == uid, checkpoints.c.state.is_not(None)
        )
    )
    return {f"checkpoint_v{number}": digest for number, digest in found}
