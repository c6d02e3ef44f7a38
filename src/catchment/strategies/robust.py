"""What rules against faulty or hostile clients share: reading all updates side by side, blockwise.

They count every client alike, since a number of samples is only what a client says. Integer and boolean
tensors take their lower median, so that no single client decides them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from catchment.errors import BadTensors
from catchment.models.interfaces import Tensors
from catchment.models.signature import Array, Signature
from catchment.models.updates import blocks
from catchment.strategies.sums import BLOCK_ELEMENTS, ClientUpdate
from catchment.strategies.writing import Floats

MAX_VALUES = 1 << 22
"""Values of all clients that are held at a time: 32 MiB of float64, whatever the cohort's size."""


def block_elements(num_updates: int) -> int:
    """Size of a block, so that the blocks of all updates together stay small."""
    return max(1, min(BLOCK_ELEMENTS, MAX_VALUES // max(1, num_updates)))


def some(updates: Sequence[ClientUpdate]) -> Sequence[ClientUpdate]:
    """The updates themselves. Raises BadTensors when there are none."""
    if not updates:
        raise BadTensors("no updates took part in the round; the weights stay as they are")
    return updates


def stacked(updates: Sequence[ClientUpdate], name: str, start: int, stop: int) -> Floats:
    """Elements of a tensor in all updates, a row each, float64."""
    rows = np.empty((len(updates), stop - start), np.float64)
    for row, update in zip(rows, updates, strict=True):
        np.copyto(row, update.tensors.block(name, start, stop))
    return rows


def float_blocks(updates: Sequence[ClientUpdate], weights: Tensors) -> Iterator[Floats]:
    """All float tensors of all updates, one block after the other, as `stacked` gives them."""
    for name, info in weights.signature.items():
        if info.is_float:
            for start, stop in blocks(info.num_elements, block_elements(len(updates))):
                yield stacked(updates, name, start, stop)


def lower_medians(updates: Sequence[ClientUpdate], signature: Signature) -> dict[str, Array]:
    """The lower median of each element of integer and boolean tensors: exact, a value that was sent."""
    medians = {}
    for name, info in signature.items():
        if info.is_float:
            continue
        values = np.stack([update.tensors.array(name).reshape(-1) for update in updates])
        middle = (len(updates) - 1) // 2
        # Sorted, since numpy partitions no booleans.
        medians[name] = np.sort(values, axis=0)[middle]
    return medians


def norms(updates: Sequence[ClientUpdate], weights: Tensors) -> Floats:
    """The L2 norm of each update over all float tensors, batch statistics included."""
    squares = np.zeros(len(updates))
    with np.errstate(over="ignore"):
        for rows in float_blocks(updates, weights):
            squares += np.einsum("ij,ij->i", rows, rows)
    return np.sqrt(squares)
