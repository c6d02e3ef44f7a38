"""The aggregate function in a round: it may replace the new weights, if its weights fit the model."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from catchment.errors import BadTensors, ExtenderFailed, TensorMismatch
from catchment.extenders import calls
from catchment.jobs import rows
from catchment.models.tensors import TensorFile, TensorInfo, TensorWriter, check_finite, update_signature
from catchment.models.updates import blocks, signature_problems
from catchment.rounds.claim import Claim, held
from catchment.rounds.extended import called, keep_file, own_file, storable_text
from catchment.store import Store
from catchment.store.blobs import keep_staged, new_staged_file

log = logging.getLogger(__name__)

TOGETHER = "all"
"""client_id of the one update that is seen under a secure algorithm."""


@dataclass(frozen=True)
class Extended:
    """What the aggregate function made of a round.

    Attributes:
        weights: digest of the global weights that replace the aggregation's, if there are any.
        aggregated: digest of what else it returned, kept for the finish function.
    """

    weights: str | None = None
    aggregated: str | None = None

    def told(self, rule: str) -> str:
        """The round's rule, with a word on who made its weights."""
        return f"{rule}; extenders.aggregate made the new weights" if self.weights else rule


def aggregate_extended(
    store: Store, claim: Claim, attempt: Row[Any], admitted: list[Row[Any]], *, together: str | None = None
) -> Extended:
    """Call the job's aggregate function with a round's admitted updates, in the order of their sites.

    Nothing is called, and nothing replaced, where the job has no such function.

    Args:
        store: the store.
        claim: the run.
        attempt: the attempt at the round.
        admitted: its works.
        together: under a secure algorithm the new weights that all updates together make. The function then
            sees one update, the change that those bring, and nothing of a single site.

    Raises:
        ExtenderFailed: it failed, or its weights are no weights of the model.
        JobStopped, LeaseLost: as `held`.
    """
    functions = rows.spec_of(store.db.read(lambda tx: held(tx, claim, lock=False))).extender_functions
    if "aggregate" not in functions:
        return Extended()
    global_weights = store.blobs.local_path(attempt.weights)
    with contextlib.ExitStack() as made:
        if together is None:
            updates = [_update(store, work) for work in sorted(admitted, key=lambda work: work.site)]
        else:
            change = made.enter_context(_change(store, global_weights, store.blobs.local_path(together)))
            nothing: dict[str, Any] = {"files": None, "metrics": {}, "parameters": {}}
            updates = [{"client_id": TOGETHER, "weights": str(change), **nothing}]
        arguments = {
            "weights": str(global_weights),
            "updates": updates,
            "keep": "finish" in functions,
            "max_files_bytes": store.settings.max_files_bytes,
        }
        out, result = made.enter_context(called(store, claim, "aggregate", arguments))
        replaced = kept = None
        if result["replaces"]:
            replaced = _checked_weights(store, out / calls.NEW_WEIGHTS, global_weights)
        if "finish" in functions:
            kept = keep_file(store, out / calls.AGGREGATED, "extenders.aggregate")
    told = (claim.job_id, attempt.number, replaced is not None)
    log.info("job=%s round=%d extenders.aggregate replaces=%s", *told)
    return Extended(replaced, kept)


@contextlib.contextmanager
def _change(store: Store, before: Path, after: Path) -> Iterator[Path]:
    """What leads from one set of global weights to another, as a client update in a file of its own."""
    path = new_staged_file(store.blobs)
    try:
        with (
            TensorFile.open(before) as old,
            TensorFile.open(after) as new,
            TensorWriter.create(path, update_signature(old.signature)) as writer,
        ):
            for name, info in old.signature.items():
                for start, stop in blocks(info.num_elements):
                    values = new.block(name, start, stop)
                    change = values - old.block(name, start, stop) if info.is_float else values
                    writer.write_block(name, change)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _update(store: Store, work: Row[Any]) -> dict[str, Any]:
    return {
        "client_id": work.site,
        "weights": str(store.blobs.local_path(work.update)),
        "files": str(store.blobs.local_path(work.files)) if work.files else None,
        "metrics": work.metrics or {},
        "parameters": work.parameters or {},
    }


def _checked_weights(store: Store, path: Path, global_weights: Path) -> str:
    """The digest of the function's weights, written anew as the model's, if they are such."""
    staged = new_staged_file(store.blobs)
    try:
        own_file(path, "extenders.aggregate")
        with TensorFile.open(path) as new, TensorFile.open(global_weights) as old:
            # numpy has no bfloat16; a function sees and returns float32 in its place.
            expected = {
                name: TensorInfo("F32", info.shape) if info.dtype == "BF16" else info
                for name, info in old.signature.items()
            }
            problems = "; ".join(signature_problems(new.signature, expected))
            if problems:
                raise TensorMismatch(f"they do not fit the model: {problems}")
            check_finite(new)
            with TensorWriter.create(staged, old.signature) as writer:
                for name, info in old.signature.items():
                    for start, stop in blocks(info.num_elements):
                        writer.write_block(name, new.block(name, start, stop))
    except BadTensors as error:
        raise ExtenderFailed(
            "extenders.aggregate", f"its weights cannot be used: {storable_text(str(error))}"
        ) from error
    return keep_staged(store.blobs, staged)
