"""Weighted sums of client updates: what linear aggregation rules are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from catchment.models.interfaces import Tensors
from catchment.models.signature import Array, Signature

BLOCK_ELEMENTS = 1 << 15
"""Tensors are worked on in blocks of so many elements: sums, scratch and operand stay in the cache."""

BATCH = 8
"""Updates that are best added at a time: their sums then pass through memory once instead of eight times."""


@dataclass(frozen=True)
class ClientUpdate:
    """One site's contribution to a round.

    Attributes:
        site: the site's name.
        num_samples: how many samples it trained on, at least 1.
        tensors: float tensors as differences to the round's weights, others as values.
    """

    site: str
    num_samples: int
    tensors: Tensors


class Sums:
    """Running sums over a round's updates: float64 for float tensors, the maximum for others.

    Float memory is 8 bytes an element, whatever the cohort's size. Counters (such as batch
    normalisation's num_batches_tracked) and masks have no meaningful mean: their largest value is kept.

    Attributes:
        floats: name -> flat float64 sum of weight times update.
        others: name -> largest values of integer and boolean tensors.
        total_weight: what a mean is divided by, the sum of all weights; privacy sets a fixed one.
        num_updates: how many updates were added.
        num_samples: how many samples they stand for.
    """

    def __init__(self, signature: Signature) -> None:
        self.total_weight = 0.0
        self.num_samples = 0
        self.num_updates = 0
        self.floats = {
            name: np.zeros(info.num_elements, np.float64) for name, info in signature.items() if info.is_float
        }
        self.others: dict[str, Array] = {}
        self._scratch = np.empty(BLOCK_ELEMENTS, np.float64)

    def add(self, updates: Sequence[ClientUpdate], weights: Sequence[float]) -> None:
        """Add each update times its weight, in the given order; how they are batched changes no bit."""
        # Whoever writes the result refuses what is not finite.
        with np.errstate(over="ignore", invalid="ignore"):
            for name in self.floats:
                self._add_tensor(name, updates, weights)
        for update, weight in zip(updates, weights, strict=True):
            self._keep_largest(update.tensors)
            self.total_weight += weight
            self.num_samples += update.num_samples
            self.num_updates += 1

    def _add_tensor(self, name: str, updates: Sequence[ClientUpdate], weights: Sequence[float]) -> None:
        total = self.floats[name]
        for start in range(0, total.size, BLOCK_ELEMENTS):
            part = total[start : start + BLOCK_ELEMENTS]
            product = self._scratch[: part.size]
            for update, weight in zip(updates, weights, strict=True):
                block = update.tensors.block(name, start, start + part.size)
                np.multiply(block, weight, out=product, dtype=np.float64)
                np.add(part, product, out=part)

    def _keep_largest(self, tensors: Tensors) -> None:
        for name, info in tensors.signature.items():
            if not info.is_float:
                values = tensors.array(name)
                known = self.others.get(name)
                self.others[name] = values.copy() if known is None else np.maximum(known, values)
