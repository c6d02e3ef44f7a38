"""The interface of aggregation rules, and the sums that most of them are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from catchment.models.tensors import Signature, TensorFile, TensorWriter

BLOCK_ELEMENTS = 1 << 15
"""Tensors are worked on in blocks of so many elements: sums, scratch and operand stay in the cache."""


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
    tensors: TensorFile


class Sums:
    """Running sums over a round's updates: float64 for float tensors, the maximum for others.

    Float memory is 8 bytes an element, whatever the cohort's size. Counters (such as batch
    normalisation's num_batches_tracked) and masks have no meaningful mean: their largest value is kept.
    """

    def __init__(self, signature: Signature) -> None:
        self.num_samples = 0
        self.num_updates = 0
        self.floats = {
            name: np.zeros(info.num_elements, np.float64) for name, info in signature.items() if info.is_float
        }
        self.others: dict[str, np.ndarray] = {}
        self._scratch = np.empty(BLOCK_ELEMENTS, np.float64)

    def add(self, update: ClientUpdate, weight: float) -> None:
        """Add `weight` times the update."""
        for name, total in self.floats.items():
            for start in range(0, total.size, BLOCK_ELEMENTS):
                part = total[start : start + BLOCK_ELEMENTS]
                scratch = self._scratch[: part.size]
                block = update.tensors.block(name, start, start + part.size)
                with np.errstate(over="ignore", invalid="ignore"):  # `finish` refuses what is not finite
                    np.multiply(block, weight, out=scratch, dtype=np.float64)
                    part += scratch
        for name, info in update.tensors.signature.items():
            if not info.is_float:
                values = update.tensors.array(name)
                known = self.others.get(name)
                self.others[name] = values.copy() if known is None else np.maximum(known, values)
        self.num_samples += update.num_samples
        self.num_updates += 1


class Strategy(ABC):
    """How client updates become new global weights.

    Updates are accumulated one at a time in the order of their sites' names, so that arrival order
    changes no bit; `finish` either writes all tensors or raises, and then nothing has changed.
    """

    def begin(self, weights: TensorFile) -> Sums:
        """Empty sums for a round that began from `weights`."""
        return Sums(weights.signature)

    @abstractmethod
    def accumulate(self, sums: Sums, update: ClientUpdate) -> None:
        """Add one update to the running sums."""

    @abstractmethod
    def finish(self, sums: Sums, weights: TensorFile, writer: TensorWriter) -> None:
        """Write the new global weights, in the order of the signature of `weights`.

        Raises:
            BadTensors: the result would not be finite.
        """
