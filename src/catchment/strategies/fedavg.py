"""FedAvg: the mean of client updates, weighted by their numbers of samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from catchment.errors import BadTensors
from catchment.models.tensors import TensorFile, TensorWriter
from catchment.strategies.base import Strategy
from catchment.strategies.sums import ClientUpdate, Sums
from catchment.strategies.writing import write_changed


class FedAvg(Strategy):
    """Mean of client updates, weighted by their numbers of samples (McMahan et al. 2017).

    `w' = w + learning_rate * sum(n_k * D_k) / sum(n_k)`, in float64, cast once to the tensor's dtype.
    Integer and boolean tensors take their largest value.
    """

    def __init__(self, learning_rate: float = 1.0) -> None:
        self.learning_rate = learning_rate

    def accumulate(self, sums: Sums, updates: Sequence[ClientUpdate]) -> None:
        """Add updates, weighted by their numbers of samples."""
        sums.add(updates, [float(update.num_samples) for update in updates])

    def finish(self, sums: Sums, weights: TensorFile, writer: TensorWriter) -> None:
        """Write `w + learning_rate * mean`, block by block.

        Raises:
            BadTensors: no samples were added, or a weight would overflow its dtype.
        """
        if sums.num_samples <= 0:
            raise BadTensors("no samples took part in the round; the weights stay as they are")
        step = self.learning_rate / sums.num_samples
        write_changed(
            weights, sums, writer, lambda _name, _start, _stop, total: np.multiply(total, step, out=total)
        )
