"""FedAvgM: FedAvg with momentum at the server."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from catchment.models.interfaces import Sink, Tensors
from catchment.strategies.base import Context, LinearStrategy, Outcome, StrategyParams, mean_of
from catchment.strategies.sums import Sums
from catchment.strategies.writing import Floats, State, write_changed

MOMENTUM = "@momentum/"


class FedAvgM(LinearStrategy):
    """Server momentum (Hsu, Qi and Brown 2019; Reddi et al. 2021, algorithm 1).

    With D the mean update, weighted by samples: `m' = momentum * m + D`, `w' = w + learning_rate * m'`.
    """

    name = "fedavgm"

    class Params(StrategyParams):
        """`momentum` 0 is FedAvg."""

        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9

    params: Params

    def finish(self, sums: Sums, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Write the new weights; the state is the momentum."""
        mean = mean_of(sums)
        state = State(context.state, weights.signature, MOMENTUM)

        def change(name: str, start: int, stop: int) -> Floats:
            moved = self.params.momentum * state.block(MOMENTUM + name, start, stop) + mean(name, start, stop)
            state.keep(MOMENTUM + name, start, moved)
            return context.learning_rate * moved

        write_changed(weights, sums.others, writer, change)
        return Outcome(state=state.arrays)
