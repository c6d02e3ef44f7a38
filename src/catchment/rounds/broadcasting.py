"""The broadcast function: files and parameters for every client, made once an attempt and then kept.

With a broadcast function the commit does not publish the next round by itself. The function may take
minutes, and a commit that waits for it would be a commit that a crash can lose; so the commit selects the
next cohort, and the flow broadcasts and publishes right after it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import Row, delete, insert, select

from catchment import faults
from catchment.errors import ExtenderFailed
from catchment.exchange.storable import storable
from catchment.jobs import purge, rows
from catchment.jobs.states import RoundState
from catchment.rounds import journal
from catchment.rounds.claim import Claim, held
from catchment.rounds.evaluation import evaluation_due, publish_evaluation
from catchment.rounds.extended import called, keep_file, own_file
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import prepared_files
from catchment.wire.messages import WorkKind, plain_file_name

_FIELD = "extenders.broadcast"
_MAX_FILES = 1000
_MAX_PARAMETER_BYTES = 4 * 2**20


def broadcast(store: Store, claim: Claim, number: int, kind: WorkKind) -> bool:
    """Call the job's broadcast function for a round's training or evaluation, unless that was done.

    For the training the cohort must be selected; its work can be published afterwards. The evaluation of a
    committed round is published in the same transaction. Returns whether there is a selected attempt, or
    an evaluation that is due.

    Raises:
        ExtenderFailed: the function failed, or returned what cannot be sent.
        TransferError: another job has just removed the same bytes; trying again helps.
        JobStopped, LeaseLost: as `held`.
    """
    job_row, row = store.db.read(lambda tx: (held(tx, claim, lock=False), _waiting(tx, claim, number, kind)))
    if row is None or _parameters(row, kind) is not None:
        return row is not None
    arguments = {"parameters": dict(rows.spec_of(job_row).parameters)}
    with called(store, claim, "broadcast", arguments) as (out, result):
        parameters = _checked_parameters(result["parameters"])
        files = _kept_files(store, out, result["files"])
    faults.reach("mid_broadcast")

    def step(tx: Transaction) -> None:
        purge.hold_blobs(store, tx, [file["digest"] for file in files])
        job_row = held(tx, claim)
        current = _waiting(tx, claim, number, kind)
        if current is None or current.attempt != row.attempt or _parameters(current, kind) is not None:
            return
        place = {
            "job_uid": claim.uid,
            "run": claim.run,
            "round": number,
            "attempt": row.attempt,
            "kind": kind,
        }
        if files:
            tx.execute(insert(prepared_files), [{**place, **file} for file in files])
        journal.change_round(tx, current, **{journal.PARAMETERS_OF[kind].name: parameters})
        if kind == "evaluate" and current.evaluation_deadline is None:
            publish_evaluation(store, tx, job_row, current, current.new_weights, current.cohort)

    store.db.write(step)
    faults.reach("after_broadcast")
    return True


def _waiting(tx: Transaction, claim: Claim, number: int, kind: WorkKind) -> Row[Any] | None:
    """The attempt whose work of this kind is still to be published."""
    row = journal.latest_attempt(tx, claim, number)
    if row is None or kind == "train":
        return row if row is not None and row.state == RoundState.SELECTED else None
    due = evaluation_due(rows.spec_of(rows.by_uid(tx, claim.uid)).hyper_parameters, number)
    return row if due and row.state == RoundState.COMMITTED and row.evaluated_at is None else None


def _parameters(row: Row[Any], kind: WorkKind) -> dict[str, Any] | None:
    found: dict[str, Any] | None = row._mapping[journal.PARAMETERS_OF[kind].name]
    return found


def _checked_parameters(given: Any) -> dict[str, Any]:
    try:
        size = len(json.dumps(given, ensure_ascii=False, allow_nan=False).encode())
    except ValueError as error:
        raise ExtenderFailed(_FIELD, f"its parameters cannot be sent: {error}") from error
    if not isinstance(given, dict) or size > _MAX_PARAMETER_BYTES:
        raise ExtenderFailed(_FIELD, f"its parameters are {size} bytes, {_MAX_PARAMETER_BYTES} are allowed")
    return dict(storable(given))


def _kept_files(store: Store, out: Path, names: list[str]) -> list[dict[str, Any]]:
    """The function's files as blobs: rows of prepared_files without their place."""
    if len(names) > _MAX_FILES:
        raise ExtenderFailed(_FIELD, f"returned {len(names)} files, {_MAX_FILES} are allowed")
    for name in names:
        try:
            plain_file_name(name)
        except ValueError as error:
            raise ExtenderFailed(_FIELD, str(error).encode(errors="replace").decode()) from error
    paths = [own_file(out / str(index), _FIELD) for index in range(len(names))]
    sizes = [path.stat().st_size for path in paths]
    limit = store.settings.max_files_bytes
    if sum(sizes) > limit:
        raise ExtenderFailed(_FIELD, f"its files are {sum(sizes)} bytes, {limit} are allowed")
    return [
        {"name": name, "digest": keep_file(store, path, _FIELD), "size_bytes": size}
        for name, path, size in zip(names, paths, sizes, strict=True)
    ]


def forget(tx: Transaction, claim: Claim, number: int) -> set[str]:
    """Drop what was made for rounds whose work is over once `number` is committed; the files' digests."""
    mine = (prepared_files.c.job_uid == claim.uid) & (prepared_files.c.run == claim.run)
    over = (prepared_files.c.round < number) | (
        (prepared_files.c.round == number) & (prepared_files.c.kind == "train")
    )
    digests = set(tx.execute(select(prepared_files.c.digest).where(mine, over)).scalars())
    tx.execute(delete(prepared_files).where(mine, over))
    return digests
