"""Writing new global weights block by block: the old ones and a change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from catchment.errors import BadTensors
from catchment.models.tensors import TensorFile, TensorWriter
from catchment.strategies.sums import BLOCK_ELEMENTS, WINDOW_ELEMENTS, Sums

Floats = NDArray[np.float64]
Change = Callable[[str, int, int, Floats], Floats]
"""Name of a float tensor, first element, the element after the last one, their sums -> their changes.

The sums may be overwritten and returned.
"""


def write_changed(weights: TensorFile, sums: Sums, writer: TensorWriter, change: Change) -> None:
    """Write `w + change` for float tensors, in float64 and cast once, and the largest values of others.

    Raises:
        BadTensors: a weight would not be finite, or overflow its dtype.
    """
    for name, info in weights.signature.items():
        if info.is_float:
            _write_floats(name, weights, sums, writer, change)
        else:
            writer.write(name, sums.others[name].reshape(info.shape))


def _write_floats(name: str, weights: TensorFile, sums: Sums, writer: TensorWriter, change: Change) -> None:
    scratch = np.empty(BLOCK_ELEMENTS, np.float64)
    for start, stop, total in sums.blocks(name):
        new = scratch[: stop - start]
        np.copyto(new, weights.block(name, start, stop))
        with np.errstate(over="ignore", invalid="ignore"):
            np.add(new, change(name, start, stop, total), out=new)
        if not np.isfinite(new).all():
            raise BadTensors(f"the new weights of {name!r} are not finite; is learning_rate too large?")
        writer.write_block(name, new)
        if stop % WINDOW_ELEMENTS == 0:
            weights.forget(name, stop - WINDOW_ELEMENTS, stop)
