"""Loading the round's weights into a model, and handing over what training made of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from catchment.errors import BadTensors, SdkError
from catchment.models.reading import TensorFile
from catchment.models.signature import Array, Signature, TensorInfo, update_signature
from catchment.models.updates import all_finite, blocks, signature_problems
from catchment.models.writing import TensorWriter
from catchment.sdk.folder import is_writer, task, task_folder
from catchment.sdk.frameworks import LiveModel, live_model
from catchment.sdk.metrics import commit_metrics
from catchment.wire.task import UPDATE, WEIGHTS


def load_weights(model: Any) -> None:
    """Load the round's global weights into `model`, in place.

    Args:
        model: torch module, also inside DataParallel or DistributedDataParallel, or built Keras 3 model.

    Raises:
        SdkError: outside of a task, or names or shapes differ; the message lists how.
    """
    folder = task_folder()
    live = live_model(model)
    with TensorFile.open(folder / WEIGHTS, copy_on_write=True) as weights:
        names = _aligned(live, weights.signature)
        live.assign({own: _values(weights, name) for name, own in names.items()})


def commit_weights(model: Any, optimizer: Any = None) -> None:
    """Hand over the trained weights, as differences to the round's; a second call replaces the first.

    Float tensors are handed over as differences, integers and booleans as values. Only rank 0 of several
    workers writes. A task that evaluates takes no weights: a warning says so.

    Args:
        model: the trained model, as in `load_weights`.
        optimizer: what `create_optimizer` gave, for algorithms that keep a state in it.

    Raises:
        SdkError: outside of a task, names or shapes differ, or a tensor holds NaN or infinite values.
    """
    folder = task_folder()
    if not is_writer():
        return
    if task().kind == "evaluate":
        warnings.warn("this task evaluates: the weights that were committed are not used", stacklevel=2)
        return
    live = live_model(model)
    with TensorFile.open(folder / WEIGHTS) as weights:
        names = _aligned(live, weights.signature)
        with TensorWriter.create(folder / UPDATE, update_signature(weights.signature)) as writer:
            for name in weights.signature:
                _write_update(writer, weights, name, live.read(names[name]).reshape(-1))


def commit(metrics: Mapping[str, Any], trained_model: Any = None, optimizer: Any = None) -> None:
    """Hand over metrics and, where given, the trained model: `commit_weights` and `commit_metrics` in one.

    Raises:
        SdkError: as those two.
    """
    if trained_model is not None:
        commit_weights(trained_model, optimizer)
    commit_metrics(metrics)


def save_weights(model: Any, path: str | Path) -> None:
    """Write the model's weights to a tensor file, such as a job's `model_path` names; needs no task.

    Raises:
        SdkError: the model cannot be federated, or a tensor holds NaN or infinite values.
    """
    live = live_model(model)
    with TensorWriter.create(Path(path), live.signature) as writer:
        for name, info in live.signature.items():
            values = live.read(name)
            if info.is_float and not all_finite(values):
                raise SdkError(f"tensor '{name}' holds NaN or infinite values")
            writer.write(name, values)


def _aligned(live: LiveModel, weights: Signature) -> dict[str, str]:
    """Name in the round's weights -> name in the model, for all of them.

    Raises:
        SdkError: tensors are missing, left over, or of another shape or kind.
    """
    names = live.align(weights)
    model_names = {own: name for name, own in names.items()}
    found = {model_names.get(own, own): _as_kind(info) for own, info in live.signature.items()}
    problems = signature_problems(found, {name: _as_kind(info) for name, info in weights.items()})
    if problems:
        raise SdkError("the model differs from the round's weights: " + "; ".join(problems))
    return names


def _as_kind(info: TensorInfo) -> TensorInfo:
    """A model may train in another precision than the weights have, not in another kind of number."""
    return TensorInfo("F64" if info.is_float else "BOOL" if info.dtype == "BOOL" else "I64", info.shape)


def _values(weights: TensorFile, name: str) -> Array:
    # numpy has no bfloat16; all others go to the framework as they are, without a copy.
    return weights.values(name) if weights.signature[name].dtype == "BF16" else weights.array(name)


def _write_update(writer: TensorWriter, weights: TensorFile, name: str, trained: Array) -> None:
    info = weights.signature[name]
    for start, stop in blocks(info.num_elements):
        values = trained[start:stop]
        if info.is_float:
            with np.errstate(over="ignore", invalid="ignore"):
                values = values.astype(info.compute_dtype, copy=False) - weights.block(name, start, stop)
            if not all_finite(values):
                raise SdkError(
                    f"tensor '{name}' holds NaN or infinite values after training; nothing was committed. "
                    "A smaller learning rate or clipped gradients may help"
                )
        try:
            writer.write_block(name, values)
        except BadTensors as error:
            raise SdkError(str(error)) from None
