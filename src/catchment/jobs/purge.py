"""Removing a job: its folders, its rows, and the blobs that nothing else refers to."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select, union

from catchment.errors import NotFound
from catchment.jobs import rows
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import checkpoints, job_logs, jobs, rounds, works

REFERENCES = (
    (jobs.c.initial_weights, jobs.c.uid),
    (rounds.c.weights, rounds.c.job_uid),
    (rounds.c.new_weights, rounds.c.job_uid),
    (works.c.update, works.c.job_uid),
    (checkpoints.c.digest, checkpoints.c.job_uid),
)
"""Columns that hold digests of blobs, each with the column of the job that it belongs to."""


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
        (store.blobs.staging_folder / f"update-{work_id}").unlink(missing_ok=True)

    def step(tx: Transaction) -> None:
        rows.cancel_open_works(tx, uid, "the job was deleted")
        for table in (works, rounds, checkpoints, job_logs):
            tx.execute(delete(table).where(table.c.job_uid == uid))
        tx.execute(delete(jobs).where(jobs.c.uid == uid))
        tx.notify(rows.topic(uid))

    store.db.write(step)
    delete_unreferenced(store, digests)


def _digests(tx: Transaction, uid: str, row: Any) -> set[str]:
    # "" stands where a digest was: what it named is gone already.
    statements = [
        select(column).where(owner == uid, column.is_not(None), column != "") for column, owner in REFERENCES
    ]
    found = set(tx.execute(union(*statements)).scalars())
    if row.sent_scripts:
        found.add(row.sent_scripts["archive"]["digest"])
    return found


def delete_unreferenced(store: Store, digests: set[str]) -> None:
    """Remove those blobs that no row refers to any more."""
    if not digests:
        return

    def step(tx: Transaction) -> set[str]:
        used = {
            digest
            for column, _ in REFERENCES
            for digest in tx.execute(select(column).where(column.in_(digests))).scalars()
        }
        sent = tx.execute(select(jobs.c.sent_scripts).where(jobs.c.sent_scripts.is_not(None))).scalars()
        return used | {scripts["archive"]["digest"] for scripts in sent if scripts}

    for digest in digests - store.db.read(step):
        store.blobs.delete(digest)


def checkpoint_paths(tx: Transaction, uid: str) -> dict[str, str]:
    """A job's checkpoints: id -> path, oldest first."""
    found = tx.execute(
        select(checkpoints.c.number, checkpoints.c.path)
        .where(checkpoints.c.job_uid == uid)
        .order_by(checkpoints.c.number)
    )
    return {f"checkpoint_v{number}": path for number, path in found}
