"""int8: blocks of elements on 255 levels with a scale each, rounded at random (QSGD)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from catchment.compression.codec import Codec
from catchment.errors import BadTensors
from catchment.models.signature import Array, Signature, TensorInfo
from catchment.models.tensors import TensorFile
from catchment.models.updates import BLOCK_ELEMENTS

STEP = "@step/"
_LEVELS = 127


class Int8(Codec):
    """Stochastic quantisation (Alistarh et al. 2017) with the largest absolute value as a block's norm.

    An element x of a block becomes `floor(x / step + u)`, u uniform in [0, 1), `step = max|x| / 127`. The
    expected value is x, the error below one step; `block` elements share a step of four bytes.
    """

    def __init__(self, block: int) -> None:
        self._block = block

    def stored(self, name: str, info: TensorInfo) -> Signature:
        """A step for each block, and the levels in the tensor's shape."""
        num_blocks = -(-info.num_elements // self._block)
        return {STEP + name: TensorInfo("F32", (num_blocks,)), name: TensorInfo("I8", info.shape)}

    def encode(self, name: str, values: Array, generator: np.random.Generator) -> Mapping[str, Array]:
        """Steps and levels. One uniform number is drawn for each element, in their order."""
        steps = np.empty(-(-values.size // self._block), np.float32)
        levels = np.empty(values.size, np.int8)
        for first in range(0, values.size, self._stride):
            part = values[first : first + self._stride]
            blocks = slice(first // self._block, -(-(first + part.size) // self._block))
            steps[blocks] = _steps(name, self._in_blocks(part))
            spread = self._spread(steps[blocks], part.size, part.dtype)
            scaled = np.divide(part, spread, out=np.zeros_like(part), where=spread > 0)
            scaled += generator.random(part.size, dtype=np.float32)
            np.clip(np.floor(scaled, out=scaled), -_LEVELS, _LEVELS, out=scaled)
            levels[first : first + part.size] = scaled.astype(np.int8)
        return {STEP + name: steps, name: levels}

    def check(self, file: TensorFile, name: str, info: TensorInfo) -> None:
        """Refuse steps that are negative, or with which a value would not be finite."""
        steps = file.array(STEP + name)
        with np.errstate(over="ignore"):
            good = (steps >= 0) & np.isfinite(steps * np.float32(_LEVELS + 1))
        if not good.all():
            raise BadTensors(f"tensor '{name}': a scale of its int8 blocks is negative or not finite")

    def block(self, file: TensorFile, name: str, info: TensorInfo, start: int, stop: int) -> Array:
        """Levels times steps."""
        first = start // self._block
        steps = file.array(STEP + name)[first : -(-stop // self._block)]
        levels = file.array(name).reshape(-1)[start:stop]
        lead = start - first * self._block
        spread = self._spread(steps, lead + levels.size, info.compute_dtype)[lead:]
        values: Array = np.multiply(levels, spread, dtype=info.compute_dtype)
        return values

    @property
    def _stride(self) -> int:
        """Elements that are worked on at a time: whole blocks."""
        return max(1, BLOCK_ELEMENTS // self._block) * self._block

    def _in_blocks(self, values: Array) -> Array:
        padded = np.zeros(-(-values.size // self._block) * self._block, values.dtype)
        np.abs(values, out=padded[: values.size])
        in_blocks: Array = padded.reshape(-1, self._block)
        return in_blocks

    def _spread(self, steps: Array, size: int, dtype: np.dtype[np.generic]) -> Array:
        return np.repeat(steps.astype(dtype, copy=False), self._block)[:size]


def _steps(name: str, magnitudes: Array) -> Array:
    largest: Array = magnitudes.max(axis=1).astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        steps: Array = (largest / _LEVELS).astype(np.float32)
        # Rounded up, so that no element lies above the last level.
        short = steps.astype(np.float64) * _LEVELS < largest
        steps = np.where(short, np.nextafter(steps, np.float32(np.inf)), steps)
        if not np.isfinite(steps * np.float32(_LEVELS + 1)).all():
            raise BadTensors(f"tensor '{name}' holds values that int8 compression cannot scale")
    return steps
