"""SCAFFOLD: control variates take the clients' drift out of their steps."""

from __future__ import annotations

from catchment.models.interfaces import Sink, Tensors
from catchment.strategies.base import (
    Context,
    LinearStrategy,
    Outcome,
    StrategyParams,
    Weighting,
    everybody,
    mean_step,
)
from catchment.strategies.sums import Sums
from catchment.strategies.vectors import CONTROL
from catchment.strategies.writing import Floats, State, write_changed

EVERYBODY = "@everybody"


class Scaffold(LinearStrategy):
    """SCAFFOLD's server (Karimireddy et al. 2020, algorithm 1).

    Clients send `D_k` and the change of their control variate, `d_k = c_k' - c_k`. With N the sites that
    the job may use, whether or not they took part:
    `w' = w + learning_rate * mean_S(D_k)`, `c' = c + sum_S(d_k) / N`, so that `c = sum_k(c_k) / N` always.

    Uniform weights are the paper's. With `weighting: samples` clients count by their samples p_k, and
    `c = sum_k(p_k * c_k)`; that fits better where clients are alike, and diverges where one holds most data.
    """

    name = "scaffold"
    stateful_clients = True
    plain_sgd = True
    broadcasts_state = True
    counts_everybody = True

    class Params(StrategyParams):
        """`weighting: samples` counts clients by their samples."""

        weighting: Weighting = "uniform"

    params: Params

    def __init__(self, **params: object) -> None:
        super().__init__(**params)
        self.weighting = self.params.weighting

    def finish(self, sums: Sums, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Write the new weights; the state is the control variate c."""
        step = mean_step(sums, context)
        state = State(context.state, weights.signature, CONTROL)
        controls = Control(sums, context, state, self.weighting)

        def change(name: str, start: int, stop: int) -> Floats:
            controls.move(name, start, stop)
            return sums.block(name, start, stop) * step

        write_changed(weights, sums.others, writer, change)
        return Outcome(state=state.arrays)


class Control:
    """Means over all sites of vectors whose changes some of the sites have sent.

    The mean before is taken times the weight of everybody before: where sites join, it stays the mean.
    """

    def __init__(self, sums: Sums, context: Context, state: State, weighting: Weighting) -> None:
        self._sums, self._state = sums, state
        self._now = everybody(sums, context, weighting)
        before = state.number(EVERYBODY) or self._now
        self._kept = before / self._now
        state.keep_number(EVERYBODY, self._now)

    def mean(self, kept: str, changes: str, start: int, stop: int) -> Floats:
        """The mean array `kept` of the state after the summed vector `changes`; it is kept."""
        mean = self._state.block(kept, start, stop) * self._kept
        mean += self._sums.block(changes, start, stop) / self._now
        self._state.keep(kept, start, mean)
        return mean

    def move(self, name: str, start: int, stop: int) -> None:
        """The control variate of a tensor."""
        self.mean(CONTROL + name, CONTROL + name, start, stop)
