"""Compressing a client update at the site."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from catchment.compression.codec import Codec, is_compressed
from catchment.errors import BadTensors
from catchment.models.signature import Array, TensorInfo
from catchment.models.tensors import TensorFile, TensorWriter
from catchment.models.updates import all_finite, blocks


def encode(
    source: Path,
    target: Path,
    codec: Codec,
    *,
    generator: np.random.Generator,
    residual: Path | None = None,
    next_residual: Path | None = None,
) -> None:
    """Write the update in `source` to `target`, compressed; the memory needed is its largest tensor's.

    Args:
        source: the update, which fits and holds finite numbers.
        target: the compressed file.
        codec: the compression.
        generator: what random rounding draws from.
        residual: what the last update left out, added to this one; None for nothing.
        next_residual: gets what this update leaves out, where the codec keeps it.

    Raises:
        BadTensors: a value cannot be stored compressed, or the residual is of another model.
    """
    with ExitStack() as stack:
        update = stack.enter_context(TensorFile.open(source))
        signature = {name: info for name, info in update.signature.items() if is_compressed(name, info)}
        before = stack.enter_context(TensorFile.open(residual)) if residual and codec.keeps_residual else None
        if before is not None and before.signature != signature:
            raise BadTensors("what the last update left out is of another model")
        writer = stack.enter_context(TensorWriter.create(target, codec.wire_signature(update.signature)))
        rest = None
        if next_residual is not None and codec.keeps_residual:
            rest = stack.enter_context(TensorWriter.create(next_residual, signature))
        for name, info in update.signature.items():
            if name not in signature:
                writer.write(name, update.array(name))
                continue
            values = _with_residual(update, before, name, info)
            stored = codec.encode(name, values, generator)
            for part, array in stored.items():
                writer.write_block(part, array.reshape(-1))
            if rest is not None:
                rest.write_block(name, codec.left_out(name, values, stored))


def _with_residual(update: TensorFile, before: TensorFile | None, name: str, info: TensorInfo) -> Array:
    values = update.float_array(name).reshape(-1)
    if before is None:
        return values
    with np.errstate(over="ignore"):
        values = values + before.float_array(name).reshape(-1)
    for start, stop in blocks(info.num_elements):
        if not all_finite(values[start:stop]):
            raise BadTensors(f"tensor '{name}' overflows with what the last update left out")
    return values
