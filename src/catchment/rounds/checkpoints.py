"""Checkpoints: committed weights as files in the namespace's folder, with their accuracy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import func, insert, select

from catchment import faults
from catchment.catalog.made import insert_checkpoint
from catchment.catalog.rows import VersionFile
from catchment.jobs import log, purge, rows
from catchment.rounds import journal
from catchment.rounds.claim import Claim, held
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import checkpoints

STATE_FILE = "state.safetensors"
"""The strategy's state, beside the weights; a run that begins from the checkpoint goes on from it."""


@dataclass(frozen=True)
class Checkpoint:
    """A saved checkpoint: its id in the job, its path in the namespace's folder, its digest."""

    id: str
    path: str
    digest: str
    accuracy: float | None


def save_checkpoint(store: Store, claim: Claim, number: int) -> Checkpoint:
    """Save a committed round's weights with its metrics; one that is saved already is returned as it is.

    Files are written before the row, so a checkpoint that GET shows is there.

    Raises:
        NotFound: the round is not committed.
        JobStopped, LeaseLost: as `held`.
    """
    row, round_row, known, next_number = store.db.read(lambda tx: _look(tx, claim, number))
    if known is not None:
        return Checkpoint(f"checkpoint_v{known.number}", known.path, known.digest, known.accuracy)
    folder = f"{row.run_folders[-1]}/checkpoints/checkpoint_v{next_number}"
    path = f"{folder}/checkpoint_{number}.safetensors"
    metrics = round_row.metrics or {}
    accuracy = metrics.get("accuracy")
    store.files.write_file(claim.namespace, path, store.blobs.local_path(round_row.new_weights))
    if round_row.new_state:
        state = store.blobs.local_path(round_row.new_state)
        store.files.write_file(claim.namespace, f"{folder}/{STATE_FILE}", state)
    faults.reach("mid_checkpoint")
    store.files.write_bytes(claim.namespace, f"{folder}/metrics.json", _json(metrics))

    weights = VersionFile(
        PurePosixPath(path).name, round_row.new_weights, store.blobs.size(round_row.new_weights)
    )

    def step(tx: Transaction) -> None:
        purge.hold_blobs(store, tx, [weights.digest])
        job = held(tx, claim)
        insert_checkpoint(tx, job, next_number, number, weights, accuracy)
        tx.execute(
            insert(checkpoints).values(
                job_uid=claim.uid,
                number=next_number,
                run=claim.run,
                round=number,
                path=path,
                digest=round_row.new_weights,
                state=round_row.new_state,
                accuracy=accuracy,
                metrics=metrics,
                created_at=tx.now,
            )
        )
        told = f"checkpoint_v{next_number} saved as {path}"
        log.write(tx, claim.uid, log.Line(told, run=claim.run, round=number))
        tx.notify(rows.topic(claim.uid))

    store.db.write(step)
    return Checkpoint(f"checkpoint_v{next_number}", path, round_row.new_weights, accuracy)


def _look(tx: Transaction, claim: Claim, number: int) -> tuple[Any, Any, Any, int]:
    row = held(tx, claim, lock=False)
    mine = checkpoints.c.job_uid == claim.uid
    known = tx.execute(
        select(checkpoints).where(mine, checkpoints.c.run == claim.run, checkpoints.c.round == number)
    ).first()
    last = tx.execute(select(func.max(checkpoints.c.number)).where(mine)).scalar() or 0
    return row, journal.committed(tx, claim, number), known, last + 1


def is_saved(tx: Transaction, claim: Claim, number: int) -> bool:
    """Whether the round has its checkpoint."""
    return (
        tx.execute(
            select(checkpoints.c.number).where(
                checkpoints.c.job_uid == claim.uid,
                checkpoints.c.run == claim.run,
                checkpoints.c.round == number,
            )
        ).first()
        is not None
    )


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
