"""FedAvg: the mean of client updates, weighted by their numbers of samples."""

from __future__ import annotations

import numpy as np

from catchment.errors import BadTensors
from catchment.models.tensors import TensorFile, TensorWriter
from catchment.strategies.base import BLOCK_ELEMENTS, ClientUpdate, Strategy, Sums


class FedAvg(Strategy):
    """Mean of client updates, weighted by their numbers of samples (McMahan et al. 2017).

    `w' = w + learning_rate * sum(n_k * D_k) / sum(n_k)`, in float64, cast once to the tensor's dtype.
    Integer and boolean tensors take their largest value.
    """

    def __init__(self, learning_rate: float = 1.0) -> None:
        self.learning_rate = learning_rate

    def accumulate(self, sums: Sums, update: ClientUpdate) -> None:
        """Add one update, weighted by its number of samples."""
        sums.add(update, float(update.num_samples))

    def finish(self, sums: Sums, weights: TensorFile, writer: TensorWriter) -> None:
        """Write `w + learning_rate * mean`, block by block.

        Raises:
            BadTensors: no samples were added, or a weight would overflow its dtype.
        """
        if sums.num_samples <= 0:
            raise BadTensors("no samples took part in the round; the weights stay as they are")
        step = self.learning_rate / sums.num_samples
        for name, info in weights.signature.items():
            if not info.is_float:
                writer.write(name, sums.others[name].reshape(info.shape))
                continue
            total = sums.floats[name]
            if total.size == 0:
                writer.write(name, weights.float_array(name))
            for start in range(0, total.size, BLOCK_ELEMENTS):
                part = total[start : start + BLOCK_ELEMENTS]
                with np.errstate(over="ignore", invalid="ignore"):
                    new = weights.block(name, start, start + part.size, np.float64) + part * step
                if not np.isfinite(new).all():
                    raise BadTensors(
                        f"the new weights of {name!r} are not finite; is learning_rate too large?"
                    )
                writer.write_block(name, new)
