"""Writing new global weights block by block: the old ones and a change."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from catchment.errors import BadTensors
from catchment.models.interfaces import Sink, Tensors
from catchment.models.signature import Array, Signature
from catchment.models.updates import blocks
from catchment.strategies import sums

Floats = NDArray[np.float64]
Change = Callable[[str, int, int], Floats]
"""Name of a float tensor, first element, the element after the last one -> float64 changes of those."""


def write_changed(
    weights: Tensors, others: Mapping[str, Array], writer: Sink, change: Change, block_elements: int = 0
) -> None:
    """Write `w + change` for float tensors, in float64 and cast once, and the given values of all others.

    Args:
        weights: the weights that the round began with.
        others: values of integer and boolean tensors; flat, or in their shape.
        writer: takes the new weights.
        change: asked for once for each block, in the order of the tensors and their elements.
        block_elements: size of a block; 0 for the usual one.

    Raises:
        BadTensors: a weight would not be finite, or overflow its dtype.
    """
    size = block_elements or sums.BLOCK_ELEMENTS
    for name, info in weights.signature.items():
        if not info.is_float:
            writer.write(name, others[name].reshape(info.shape))
            continue
        scratch = np.empty(min(size, info.num_elements))
        for start, stop in blocks(info.num_elements, size):
            new = scratch[: stop - start]
            np.copyto(new, weights.block(name, start, stop))
            with np.errstate(over="ignore", invalid="ignore"):
                np.add(new, change(name, start, stop), out=new)
            if not np.isfinite(new).all():
                raise BadTensors(f"the new weights of {name!r} are not finite; is learning_rate too large?")
            writer.write_block(name, new)


class State:
    """The state that a strategy goes on from, and the one that it leaves: arrays in an update's precision.

    Attributes:
        arrays: what is left; `PREFIX` + name of a tensor has that tensor's shape.
    """

    def __init__(self, before: Tensors | None, signature: Signature, *prefixes: str) -> None:
        self._before = before
        self.arrays: dict[str, Array] = {
            prefix + name: np.zeros(info.shape, info.compute_dtype)
            for prefix in prefixes
            for name, info in signature.items()
            if info.is_float
        }

    def block(self, name: str, start: int, stop: int, default: float = 0.0) -> Floats:
        """Elements of an array as the round before left it, float64 of their own; `default` without one."""
        if self._before is None or name not in self._before.signature:
            return np.full(stop - start, default, np.float64)
        return np.array(self._before.block(name, start, stop), np.float64)

    def keep(self, name: str, start: int, values: Floats) -> None:
        """Set elements of an array. Raises BadTensors when they are not finite."""
        part = self.arrays[name].reshape(-1)[start : start + values.size]
        with np.errstate(over="ignore"):
            part[:] = values
        if not np.isfinite(part).all():
            raise BadTensors(f"the state {name!r} would not be finite; is learning_rate too large?")

    def number(self, name: str) -> float:
        """A single number as the round before left it; 0 without one."""
        return float(self.block(name, 0, 1)[0])

    def keep_number(self, name: str, value: float) -> None:
        """Set a single number."""
        self.arrays[name] = np.array([value], np.float64)
