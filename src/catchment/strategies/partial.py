"""Partial aggregation, around any strategy: tensors that are not shared keep the values that they have."""

from __future__ import annotations

from collections.abc import Collection

from numpy.typing import DTypeLike

from catchment.models.interfaces import Sink, Tensors
from catchment.models.signature import Array
from catchment.models.updates import blocks
from catchment.strategies import sums
from catchment.strategies.base import Cohort, Context, Outcome, Strategy
from catchment.strategies.vectors import partition


def aggregate(
    strategy: Strategy, cohort: Cohort, weights: Tensors, context: Context, writer: Sink
) -> Outcome:
    """Let the strategy aggregate the shared tensors, and write all tensors.

    Raises:
        InvalidField: the strategy's patterns fit no tensor.
        BadTensors: as the strategy.
    """
    shared, _, _ = partition(strategy.params.model_dump(), weights.signature)
    if len(shared) == len(weights.signature):
        return strategy.aggregate(cohort, weights, context, writer)
    filling = _Filling(weights, frozenset(shared), writer)
    outcome = strategy.aggregate(cohort, Shared(weights, shared), context, filling)
    filling.close()
    return outcome


class Shared:
    """Some of a file's tensors, in the file's order."""

    def __init__(self, tensors: Tensors, names: Collection[str]) -> None:
        self._tensors = tensors
        self.signature = {name: info for name, info in tensors.signature.items() if name in names}

    def array(self, name: str) -> Array:
        """As the file's."""
        return self._tensors.array(name)

    def block(self, name: str, start: int, stop: int, dtype: DTypeLike | None = None) -> Array:
        """As the file's."""
        return self._tensors.block(name, start, stop, dtype)


class _Filling:
    """Writes what a strategy writes, and before each of its tensors the old values of those between."""

    def __init__(self, weights: Tensors, shared: frozenset[str], writer: Sink) -> None:
        self._weights, self._shared, self._writer = weights, shared, writer
        self._left = list(weights.signature)

    def write(self, name: str, array: Array) -> None:
        self._fill(name)
        self._writer.write(name, array)

    def write_block(self, name: str, block: Array) -> None:
        self._fill(name)
        self._writer.write_block(name, block)

    def close(self) -> None:
        """Write the old values of what comes behind the last shared tensor."""
        self._fill(None)

    def _fill(self, upto: str | None) -> None:
        while self._left and self._left[0] != upto:
            name = self._left.pop(0)
            if name not in self._shared:
                self._copy(name)

    def _copy(self, name: str) -> None:
        flat = self._weights.array(name).reshape(-1)
        for start, stop in blocks(flat.size, sums.BLOCK_ELEMENTS):
            self._writer.write_block(name, flat[start:stop])
