"""Weighted sums of client updates: what linear aggregation rules are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catchment.models.interfaces import Tensors
from catchment.models.signature import Array, Signature
from catchment.models.tensors import TensorFile
from catchment.models.updates import blocks

BLOCK_ELEMENTS = 1 << 15
"""Tensors are worked on in blocks of so many elements: sums, scratch and operand stay in the cache."""

WINDOW_ELEMENTS = 1 << 19
"""So many elements of each update are looked at together; then the memory of what was read is given back."""

OPEN_UPDATES = 16
"""Updates that are best added at a time: enough to spare memory passes, few enough open files."""

Floats = NDArray[np.float64]


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
    """Sums over a round's updates: float64 for float tensors, the maximum for others.

    Updates are added in the order in which they were given, element by element, so the result has the same
    bits however they were batched. Nothing is read before it is asked for: `block` sums on the way and keeps
    nothing, `settle` keeps the sums in memory (8 bytes an element), so that files can be closed.
    Counters (such as batch normalisation's num_batches_tracked) and masks have no meaningful mean: their
    largest value is kept.

    Attributes:
        others: name -> largest values of integer and boolean tensors.
        total_weight: what a mean is divided by, the sum of all weights; privacy sets a fixed one.
        num_updates: how many updates were added.
        num_samples: how many samples they stand for.
    """

    def __init__(self, signature: Signature) -> None:
        self.total_weight = 0.0
        self.num_samples = 0
        self.num_updates = 0
        self.others: dict[str, Array] = {}
        self._sizes = {name: info.num_elements for name, info in signature.items() if info.is_float}
        self._settled: dict[str, Floats] = {}
        self._open: list[tuple[ClientUpdate, float]] = []
        self._window: tuple[str, int, list[tuple[Array, float]]] = ("", 0, [])

    def add(self, updates: Sequence[ClientUpdate], weights: Sequence[float]) -> None:
        """Add each update times its weight. Their files stay open until `settle` or the last use."""
        for update, weight in zip(updates, weights, strict=True):
            self._open.append((update, weight))
            self._keep_largest(update.tensors)
            self.total_weight += weight
            self.num_samples += update.num_samples
            self.num_updates += 1
        self._window = ("", 0, [])

    def settle(self) -> None:
        """Sum in memory what was added, so that the updates' files may be closed."""
        if not self._open:
            return
        for name, size in self._sizes.items():
            kept = self._settled.get(name)
            whole = np.empty(size, np.float64) if kept is None else kept
            for start, stop in blocks(size, BLOCK_ELEMENTS):
                whole[start:stop] = self.block(name, start, stop)
            self._settled[name] = whole
        self._open.clear()
        self._window = ("", 0, [])

    @property
    def floats(self) -> dict[str, Floats]:
        """Name -> flat float64 sums of weight times update, in memory; they may be changed in place."""
        self.settle()
        for name, size in self._sizes.items():
            if name not in self._settled:
                self._settled[name] = np.zeros(size)
        return self._settled

    def block(self, name: str, start: int, stop: int) -> Floats:
        """Sums of elements `start` to `stop` of a float tensor: a new array."""
        settled = self._settled.get(name)
        total = np.zeros(stop - start) if settled is None else settled[start:stop].copy()
        if not self._open:
            return total
        product = np.empty(stop - start)
        begin, terms = self._terms(name, start, stop)
        with np.errstate(over="ignore", invalid="ignore"):  # whoever writes refuses what is not finite
            for values, weight in terms:
                # Widened first: numpy would buffer a product of float32 by float64 in small pieces.
                np.copyto(product, values[start - begin : stop - begin])
                np.multiply(product, weight, out=product)
                np.add(total, product, out=total)
        return total

    def _terms(self, name: str, start: int, stop: int) -> tuple[int, list[tuple[Array, float]]]:
        """The window of all open updates around these elements, its first element first."""
        known, begin, terms = self._window
        end = begin + (terms[0][0].size if terms else 0)
        if known == name and begin <= start and stop <= end:
            return begin, terms
        for update, _ in self._open:
            if known and isinstance(update.tensors, TensorFile):
                update.tensors.forget(known, begin, end)
        begin = start // WINDOW_ELEMENTS * WINDOW_ELEMENTS
        end = min(max(begin + WINDOW_ELEMENTS, stop), self._sizes[name])
        terms = [(update.tensors.block(name, begin, end), weight) for update, weight in self._open]
        self._window = (name, begin, terms)
        return begin, terms

    def _keep_largest(self, tensors: Tensors) -> None:
        for name, info in tensors.signature.items():
            if not info.is_float:
                values = tensors.array(name)
                known = self.others.get(name)
                self.others[name] = values.copy() if known is None else np.maximum(known, values)
