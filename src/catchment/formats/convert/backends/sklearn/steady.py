"""Rows at which an estimator's answer does not hang on the rounding of its input.

A row between two thresholds that differ in their last bits is scored otherwise by a converted model that is
right: a scaler in front of the tree rounds its numbers in another order. Such rows tell nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from catchment.formats.convert.backends.sklearn import tables
from catchment.formats.convert.comparing import FLOAT32_TOLERANCE
from catchment.formats.convert.samples import KNOWN_SCALE, Arrays

Answer = Callable[[NDArray[np.float32]], Arrays]

NONE_LEFT = (
    "no row near what the model has learned was tried: at each of them its answer hangs on a rounding of "
    "the input, or two classes are equally likely"
)
_ROUNDINGS = 8 * float(np.finfo(np.float32).eps)
"""Of the largest number of a column: scalers, projections and kernels were seen to be within a few."""
_JUMP = 10.0
"""An answer jumps that changes so many times as much as most do."""
_SHARE = 0.5
"""Of the usual change is allowed in any case: no result is nearer than the rounding of its input."""


def steady(
    rows: NDArray[np.float32], answer: Answer, generator: np.random.Generator
) -> tuple[NDArray[np.float32], float]:
    """Those of the rows [n, features] at which the answer is the same for nearly the same input.

    Returns:
        The rows, and the scale of the rounding errors that are to be allowed for them.
    """
    if not len(rows):
        return rows, KNOWN_SCALE
    try:
        made = answer(rows)
        nearby = [answer((rows + step).astype(np.float32)) for step in _steps(rows, generator)]
    except ValueError:  # the gate will say that it does not take them, and why
        return rows, KNOWN_SCALE
    kept, scale = np.ones(len(rows), bool), KNOWN_SCALE
    for name, values in made.items():
        others = [each[name] for each in nearby]
        if values.dtype.kind == "f":
            changes = _changes(values, others)
            usual, largest = float(np.median(changes)), float(np.abs(values).max(initial=0.0))
            allowed = FLOAT32_TOLERANCE * (KNOWN_SCALE + largest)
            kept &= changes <= allowed + _JUMP * usual
            scale = max(scale, _SHARE * usual / FLOAT32_TOLERANCE - largest)
        else:
            kept &= np.all([each == values for each in others], axis=0)
    if tables.PROBABILITIES in made:
        kept &= _decided(made[tables.PROBABILITIES], scale)
    return rows[kept], scale


def _steps(rows: NDArray[np.float32], generator: np.random.Generator) -> list[NDArray[np.float64]]:
    """Upwards, downwards, and two where each column has a direction of its own."""
    far = _ROUNDINGS * np.abs(rows).max(axis=0).astype(np.float64)
    return [far, -far, *(far * generator.choice((-1.0, 1.0), rows.shape) for _ in range(2))]


def _changes(values: NDArray[np.float32], others: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    """The largest change of each row's answer."""
    changes = np.abs(np.stack(others).astype(np.float64) - values)
    return np.asarray(changes.reshape(len(others), len(values), -1).max(axis=(0, 2), initial=0.0))


def _decided(probabilities: NDArray[np.float32], scale: float) -> NDArray[np.bool_]:
    """Where the two most likely classes are further apart than rounding may put them together."""
    if probabilities.shape[1] < 2:
        return np.ones(len(probabilities), bool)
    first, second = np.sort(probabilities.astype(np.float64), axis=1)[:, :-3:-1].T
    return np.asarray(first - second > 2 * FLOAT32_TOLERANCE * (scale + 1))
