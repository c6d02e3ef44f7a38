"""The interface of aggregation rules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from catchment.models.tensors import TensorFile, TensorWriter
from catchment.strategies.sums import ClientUpdate, Sums


class Strategy(ABC):
    """How client updates become new global weights.

    Updates are accumulated a few at a time in the order of their sites' names, so that neither arrival
    order nor their batches change a bit; `finish` either writes all tensors or raises, and then nothing
    has changed.
    """

    def begin(self, weights: TensorFile) -> Sums:
        """Empty sums for a round that began from `weights`."""
        return Sums(weights.signature)

    @abstractmethod
    def accumulate(self, sums: Sums, updates: Sequence[ClientUpdate]) -> None:
        """Add some updates to the running sums; their files are closed afterwards."""

    @abstractmethod
    def finish(self, sums: Sums, weights: TensorFile, writer: TensorWriter) -> None:
        """Write the new global weights, in the order of the signature of `weights`.

        Raises:
            BadTensors: the result would not be finite.
        """
