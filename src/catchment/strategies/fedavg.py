"""FedAvg: the mean of client updates, weighted by their numbers of samples."""

from __future__ import annotations

from catchment.models.interfaces import Sink, Tensors
from catchment.strategies.base import Context, LinearStrategy, Outcome, StrategyParams, Weighting, mean_step
from catchment.strategies.sums import Sums
from catchment.strategies.writing import write_changed


class FedAvg(LinearStrategy):
    """Mean of client updates, weighted by their numbers of samples (McMahan et al. 2017).

    `w' = w + learning_rate * sum(n_k * D_k) / sum(n_k)`, in float64, cast once to the tensor's dtype.
    Integer and boolean tensors take their largest value.
    """

    name = "fedavg"

    class Params(StrategyParams):
        """`weighting: uniform` counts every client alike."""

        weighting: Weighting = "samples"

    params: Params

    def __init__(self, **params: object) -> None:
        super().__init__(**params)
        self.weighting = self.params.weighting

    def finish(self, sums: Sums, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Write `w + learning_rate * mean`, block by block."""
        step = mean_step(sums, context)
        write_changed(
            weights, sums.others, writer, lambda name, start, stop: sums.block(name, start, stop) * step
        )
        return Outcome()
