"""The finish function: called after each committed round, with its files kept in the run's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from catchment import faults
from catchment.errors import ExtenderFailed, InvalidField
from catchment.jobs import purge
from catchment.rounds import journal
from catchment.rounds.claim import Claim, held, require_wanted
from catchment.rounds.extended import called
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.files import plain_path

_FIELD = "extenders.finish"
_MAX_FILES = 10_000


def finish_round(store: Store, claim: Claim, number: int) -> list[str]:
    """Call the job's finish function for a committed round; paths of the files that it made.

    A round that has had its call is left alone. A process that dies between the call and the note of it
    makes the call once more; its files replace the earlier ones.

    Raises:
        NotFound: the round is not committed.
        ExtenderFailed: the function failed, or made files that cannot be kept.
        JobStopped, LeaseLost: as `held`.
    """
    job_row, row = store.db.read(
        lambda tx: (held(tx, claim, lock=False), journal.committed(tx, claim, number))
    )
    folder = f"{job_row.run_folders[-1]}/extender/round_{number}"
    if row.finish_ran_at is not None:
        return []
    with called(store, claim, "finish", _arguments(store, row)) as (out, _):
        names = _made(out, store.settings.max_files_bytes)
        require_wanted()
        store.files.delete_tree(claim.namespace, folder)
        for name in names:
            store.files.write_file(claim.namespace, f"{folder}/{name}", out / name)
    faults.reach("mid_finish")

    def step(tx: Transaction) -> None:
        held(tx, claim)
        journal.change_round(tx, row, finish_ran_at=tx.now, aggregated=None)

    store.db.write(step)
    faults.reach("after_finish")
    if row.aggregated:
        purge.delete_unreferenced(store, {row.aggregated})
    return [f"{folder}/{name}" for name in names]


def _arguments(store: Store, row: Row[Any]) -> dict[str, Any]:
    return {
        "round": row.number,
        "weights": str(store.blobs.local_path(row.new_weights)),
        "metrics": row.metrics or {},
        "training_metrics": row.training_metrics or {},
        "aggregated": str(store.blobs.local_path(row.aggregated)) if row.aggregated else None,
    }


def _made(out: Path, limit: int) -> list[str]:
    """Relative paths of all files below `out`, sorted; links and other things are refused."""
    names, total = [], 0
    for parent, folders, files in os.walk(out):
        for name in [*folders, *files]:
            path = Path(parent) / name
            inner = path.relative_to(out).as_posix()
            shown = repr(inner.encode(errors="replace").decode())
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise ExtenderFailed(_FIELD, f"output/{shown} is neither a file nor a folder")
            try:
                inner.encode()
                plain_path(inner, "output")
            except (InvalidField, UnicodeEncodeError) as error:
                raise ExtenderFailed(_FIELD, f"{shown} is no name for a file in the output") from error
            if path.is_file():
                names.append(inner)
                total += path.stat().st_size
    if total > limit or len(names) > _MAX_FILES:
        raise ExtenderFailed(
            _FIELD,
            f"its output is {len(names)} files of {total} bytes, {_MAX_FILES} of {limit} bytes are allowed",
        )
    return sorted(names)
