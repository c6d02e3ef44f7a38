"""Weighted sums of client updates: what most aggregation rules are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catchment.models.signature import Array
from catchment.models.tensors import Signature, TensorFile
from catchment.models.updates import blocks

BLOCK_ELEMENTS = 1 << 15
"""Tensors are worked on in blocks of so many elements: sums, scratch and operand stay in the cache."""

WINDOW_ELEMENTS = 1 << 19
"""After so many elements the memory of what was read of the updates is given back."""

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
    tensors: TensorFile


class Sums:
    """Sums over a round's updates: float64 for float tensors, the maximum for others.

    Updates are added in the order in which they were given, element by element, so the result has the same
    bits however they were batched. Nothing is read before it is asked for: `blocks` sums on the way and
    keeps nothing, `settle` keeps sums in memory (8 bytes an element), so that files can be closed.
    Counters (such as batch normalisation's num_batches_tracked) and masks have no meaningful mean: their
    largest value is kept.
    """

    def __init__(self, signature: Signature) -> None:
        self.num_samples = 0
        self.num_updates = 0
        self.others: dict[str, Array] = {}
        self._sizes = {name: info.num_elements for name, info in signature.items() if info.is_float}
        self._settled: dict[str, Floats] = {}
        self._open: list[tuple[ClientUpdate, float]] = []
        self._total, self._product = np.empty((2, BLOCK_ELEMENTS), np.float64)

    def add(self, updates: Sequence[ClientUpdate], weights: Sequence[float]) -> None:
        """Add each update times its weight. Their files stay open until `settle` or the last use."""
        for update, weight in zip(updates, weights, strict=True):
            self._open.append((update, weight))
            self._keep_largest(update.tensors)
            self.num_samples += update.num_samples
            self.num_updates += 1

    def settle(self) -> None:
        """Sum in memory what was added, so that the updates' files may be closed."""
        if not self._open:
            return
        for name, size in self._sizes.items():
            kept = self._settled.get(name)
            whole = np.empty(size, np.float64) if kept is None else kept
            for start, stop, total in self.blocks(name):
                whole[start:stop] = total
            self._settled[name] = whole
        self._open.clear()

    @property
    def floats(self) -> dict[str, Floats]:
        """Sums of all float tensors, flat, in memory."""
        self.settle()
        return {name: self._settled.get(name, np.zeros(size)) for name, size in self._sizes.items()}

    def blocks(self, name: str) -> Iterator[tuple[int, int, Floats]]:
        """Sums of elements `start` to `stop` of a float tensor, block after block.

        The array may be written to, and holds other numbers once the next one is asked for.
        """
        for begin, end in blocks(self._sizes[name], WINDOW_ELEMENTS):
            terms = [(update.tensors.block(name, begin, end), weight) for update, weight in self._open]
            for start, stop in blocks(end - begin, BLOCK_ELEMENTS):
                given = [(values[start:stop], weight) for values, weight in terms]
                yield begin + start, begin + stop, self._sum(name, begin + start, begin + stop, given)
            for update, _ in self._open:
                update.tensors.forget(name, begin, end)

    def _sum(self, name: str, start: int, stop: int, terms: list[tuple[Array, float]]) -> Floats:
        total, product = self._total[: stop - start], self._product[: stop - start]
        settled = self._settled.get(name)
        np.copyto(total, 0.0 if settled is None else settled[start:stop])
        with np.errstate(over="ignore", invalid="ignore"):  # whoever writes refuses what is not finite
            for values, weight in terms:
                # Widened first: numpy would buffer a product of float32 by float64 in small pieces.
                np.copyto(product, values)
                np.multiply(product, weight, out=product)
                np.add(total, product, out=total)
        return total

    def _keep_largest(self, tensors: TensorFile) -> None:
        for name, info in tensors.signature.items():
            if not info.is_float:
                values = tensors.array(name)
                known = self.others.get(name)
                self.others[name] = values.copy() if known is None else np.maximum(known, values)
