"""From what a script has committed to what leaves the site: checked, protected, compressed.

It runs in the agent's process when the script has ended: no script can go around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from catchment.compression import codec_of, encode
from catchment.errors import BadTensors, ScriptFailed
from catchment.models.tensors import TensorFile, file_digest
from catchment.models.updates import check_finite, check_fits
from catchment.site.client_states import RESIDUAL
from catchment.strategies.vectors import algorithm_of, sent_signature
from catchment.wire.messages import Blob, WorkOrder
from catchment.wire.task import CLIENT_STATE, NEXT_CLIENT_STATE, UPDATE, WEIGHTS

_ENCODED = "encoded.safetensors"
_NEXT_RESIDUAL = "next_residual.safetensors"
MADE_BESIDE = (RESIDUAL, _ENCODED, _NEXT_RESIDUAL)
"""Files of the agent in a work's folder, beside the task folder, where no script can touch them."""


@dataclass(frozen=True)
class Contribution:
    """What a training work hands over, and what it leaves at the site.

    Attributes:
        update: the bytes that are sent, in the task folder's UPDATE.
        kept: name in the site's keeping -> file.
    """

    update: Blob
    kept: dict[str, Path]


def needed_names(order: WorkOrder) -> tuple[str, ...]:
    """What a site keeps from one round of the order's job to the next, as far as this work needs it."""
    local = order.strategy is not None and bool(order.strategy.params.get("local"))
    if order.kind == "evaluate":  # with the site's own layers
        return (CLIENT_STATE,) if local else ()
    compression = order.compression
    residual = compression and codec_of(compression.name, compression.params).keeps_residual
    state = local or _algorithm(order) in ("scaffold", "feddc")
    return (*((CLIENT_STATE,) if state else ()), *((RESIDUAL,) if residual else ()))


def contribution(order: WorkOrder, work_folder: Path, task_folder: Path) -> Contribution:
    """Take a script's update through all steps that the order asks for.

    Args:
        order: of a work that trains.
        work_folder: beside the task folder; RESIDUAL there is what the last update left out.
        task_folder: with the round's weights, and what the script has written.

    Raises:
        ScriptFailed: nothing was committed, or it cannot be used; the message says what to do.
        OSError: the disk does not take it.
    """
    update = task_folder / UPDATE
    names = needed_names(order)
    kept = {CLIENT_STATE: _next_state(task_folder)} if CLIENT_STATE in names else {}
    try:
        _check(order, task_folder, update)
        _protect(order, update)
        kept |= _compress(order, work_folder, update)
    except BadTensors as error:
        raise ScriptFailed(f"the committed weights cannot be used: {error}") from error
    return Contribution(Blob(digest=file_digest(update), size_bytes=update.stat().st_size), kept)


def _check(order: WorkOrder, task_folder: Path, path: Path) -> None:
    """The update holds exactly what is sent in this job, in finite numbers."""
    if (task_folder / WEIGHTS).is_symlink():
        raise ScriptFailed(f"the script replaced {WEIGHTS} by a link")
    if path.is_symlink() or not path.is_file():
        raise ScriptFailed("the script committed no weights: call fl.commit_weights(model)")
    strategy = order.strategy.params if order.strategy else {}
    with TensorFile.open(task_folder / WEIGHTS) as weights, TensorFile.open(path) as update:
        expected = sent_signature(weights.signature, strategy=strategy, algorithm=_algorithm(order))
        check_fits(update.signature, expected)
        check_finite(update)


def _protect(order: WorkOrder, path: Path) -> None:
    """Differential privacy at the site: clip and add noise, in place."""
    if order.privacy is None:
        return
    from catchment.privacy.site import privatise  # other jobs need no cryptography

    try:
        privatise(path, order.privacy).replace(path)
    except BadTensors as error:
        raise ScriptFailed(f"the update cannot be noised as the job asks: {error}") from error


def _compress(order: WorkOrder, folder: Path, path: Path) -> dict[str, Path]:
    """Compress in place; what is left out is to be kept."""
    if order.compression is None:
        return {}
    encoded, left_out = folder / _ENCODED, folder / _NEXT_RESIDUAL
    before = folder / RESIDUAL
    encode(
        path,
        encoded,
        codec_of(order.compression.name, order.compression.params),
        # The same work, done again after a restart, is rounded alike.
        generator=np.random.default_rng([order.seed % 2**64, order.round]),
        residual=before if before.exists() else None,
        next_residual=left_out,
    )
    encoded.replace(path)
    return {RESIDUAL: left_out} if left_out.exists() else {}


def _next_state(task_folder: Path) -> Path:
    path = task_folder / NEXT_CLIENT_STATE
    if path.is_symlink() or not path.is_file():
        raise ScriptFailed(
            f"the script left no {NEXT_CLIENT_STATE}, which the job's algorithm goes on from: "
            "call fl.commit_weights(model)"
        )
    try:
        with TensorFile.open(path) as state:
            check_finite(state)
    except BadTensors as error:
        raise ScriptFailed(f"{NEXT_CLIENT_STATE} cannot be used: {error}") from error
    return path


def _algorithm(order: WorkOrder) -> str | None:
    chosen = (order.strategy, order.optimizer, order.loss)
    return algorithm_of(*(one.name.lower() if one else None for one in chosen))
