"""Calls of a job's extenders: in a child that a stop or a time limit kills, with results that are checked."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catchment import archives, faults
from catchment.errors import ExtenderFailed, NotFound, TransferError
from catchment.exchange.storable import storable
from catchment.extenders import child
from catchment.extenders.process import Child
from catchment.extenders.script import Packed
from catchment.jobs import purge, rows
from catchment.rounds.claim import Claim, held
from catchment.store import Store
from catchment.store.blobs import keep_staged

log = logging.getLogger(__name__)
_TOLD_OUTPUT = 600


@contextlib.contextmanager
def called(store: Store, claim: Claim, step: str, arguments: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Call a function of the job's extenders; gives the folder with its files and its result.

    Raises:
        ExtenderFailed: it raised, hung, or returned nothing usable; names `extenders.<step>`.
        JobStopped, LeaseLost: as `held`; the child is killed.
    """
    row = store.db.read(lambda tx: held(tx, claim, lock=False))
    name = rows.spec_of(row).extender_functions[step]
    if not row.extender:
        raise NotFound(f"the extenders of job {claim.job_id!r} were not packed")
    packed = Packed.model_validate(row.extender)
    purge.remove_extender_folders(store, claim.uid)
    folder = purge.extender_folder(store, claim.uid)
    try:
        folder.mkdir(parents=True)
        content = archives.Content("the packed extenders", TransferError)
        archives.unpack(store.blobs.local_path(packed.archive), folder / child.SCRIPT, content)
        call = {
            "step": step,
            "name": name,
            "entry": packed.entry,
            "arguments": arguments,
            "memory_mb": store.settings.extender_memory_mb,
            "file_mb": max(1, store.settings.max_update_bytes // 1_000_000),
        }
        (folder / child.CALL).write_text(json.dumps(call))
        yield folder / child.OUT, _result(store, claim, step, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _result(store: Store, claim: Claim, step: str, folder: Path) -> Any:
    field, began = f"extenders.{step}", time.monotonic()
    ended_topic = f"extender:{folder.name}"
    process = Child(folder, lambda: store.db.signals.arrived([ended_topic]))
    try:
        faults.reach(f"in_{step}")
        in_time = _awaited(store, claim, process, ended_topic)
    finally:
        process.close()
    told = process.told() if in_time else {}
    if missing := told.get("missing"):
        log.warning("job=%s %s ran without: %s", claim.job_id, field, "; ".join(map(str, missing)))
    output = process.output()
    log.info(
        "job=%s %s ended seconds=%.3f output=%r",
        claim.job_id,
        field,
        time.monotonic() - began,
        output[-4000:],
    )
    if not in_time:
        limit_s = store.settings.extender_timeout_s
        raise ExtenderFailed(field, f"took longer than {limit_s:g} s and was ended{_last_words(output)}")
    if "error" in told:
        raise ExtenderFailed(field, storable_text(str(told["error"])) + _last_words(output))
    return told["result"]


def _awaited(store: Store, claim: Claim, process: Child, ended_topic: str) -> bool:
    """Wait for the end of the call; False when its time is over. Raises what `held` raises."""
    deadline = time.monotonic() + store.settings.extender_timeout_s
    while True:
        ticket = store.db.signals.ticket(ended_topic, rows.topic(claim.uid))
        if process.ended.is_set():
            return True
        store.db.read(lambda tx: held(tx, claim, lock=False))
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        store.db.signals.wait(ticket, left_s)


def _last_words(output: str) -> str:
    lines = " | ".join(line.strip() for line in output.splitlines() if line.strip())
    return f"; its output ends with: {storable_text(lines[-_TOLD_OUTPUT:])}" if lines else ""


def storable_text(text: str) -> str:
    """Text of a function as every database takes it."""
    return str(storable(text.encode(errors="replace").decode()))


def own_file(path: Path, field: str) -> Path:
    """The path, if it is a plain file that the function itself has made. Raises ExtenderFailed."""
    if path.is_symlink() or not path.is_file():
        raise ExtenderFailed(field, f"{path.name!r} is no plain file")
    return path


def keep_file(store: Store, path: Path, field: str) -> str:
    """Store a file that a function has made as a blob; its digest."""
    return keep_staged(store.blobs, own_file(path, field))
