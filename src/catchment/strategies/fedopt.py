"""FedAdam, FedYogi and FedAdagrad: adaptive optimizers at the server, on the mean update."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated

import numpy as np
from pydantic import Field

from catchment.models.interfaces import Sink, Tensors
from catchment.strategies.base import Context, LinearStrategy, Outcome, StrategyParams, mean_of
from catchment.strategies.sums import Sums
from catchment.strategies.writing import Floats, State, write_changed

FIRST, SECOND = "@first/", "@second/"


class FedOpt(LinearStrategy):
    """What the three have in common (Reddi et al. 2021, algorithm 2, without bias correction as there).

    With D the mean update, weighted by samples, and v beginning at tau^2:
    `m' = beta1 * m + (1 - beta1) * D`, `v'` as each rule says,
    `w' = w + learning_rate * eta * m' / (sqrt(v') + tau)`.
    """

    class Params(StrategyParams):
        """`eta` is the server's step; hyper_parameters.learning_rate (1.0 by default) multiplies it."""

        eta: Annotated[float, Field(gt=0)] = 0.1
        beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
        beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
        tau: Annotated[float, Field(gt=0)] = 1e-3

    params: Params

    @abstractmethod
    def second(self, before: Floats, square: Floats) -> Floats:
        """The next second moment, from the one before and the squared mean update."""

    def finish(self, sums: Sums, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Write the new weights; the state is both moments."""
        mean, params = mean_of(sums), self.params
        state = State(context.state, weights.signature, FIRST, SECOND)

        def change(name: str, start: int, stop: int) -> Floats:
            moved = mean(name, start, stop)
            first = params.beta1 * state.block(FIRST + name, start, stop) + (1 - params.beta1) * moved
            before = state.block(SECOND + name, start, stop, default=params.tau**2)
            second = self.second(before, moved * moved)
            state.keep(FIRST + name, start, first)
            state.keep(SECOND + name, start, second)
            return context.learning_rate * params.eta * first / (np.sqrt(second) + params.tau)

        write_changed(weights, sums.others, writer, change)
        return Outcome(state=state.arrays)


class FedAdam(FedOpt):
    """`v' = beta2 * v + (1 - beta2) * D^2`."""

    name = "fedadam"

    def second(self, before: Floats, square: Floats) -> Floats:
        """A decaying mean of the squares."""
        return self.params.beta2 * before + (1 - self.params.beta2) * square


class FedYogi(FedOpt):
    """`v' = v - (1 - beta2) * D^2 * sign(v - D^2)`: grows like Adagrad's, falls slower than Adam's."""

    name = "fedyogi"

    def second(self, before: Floats, square: Floats) -> Floats:
        """A step of fixed relative size towards the square."""
        moved: Floats = before - (1 - self.params.beta2) * square * np.sign(before - square)
        return moved


class FedAdagrad(FedOpt):
    """`v' = v + D^2`, without momentum by default as in the paper."""

    name = "fedadagrad"

    class Params(StrategyParams):
        """As the others', without beta2."""

        eta: Annotated[float, Field(gt=0)] = 0.1
        beta1: Annotated[float, Field(ge=0, lt=1)] = 0.0
        tau: Annotated[float, Field(gt=0)] = 1e-3

    def second(self, before: Floats, square: Floats) -> Floats:
        """The sum of all squares."""
        return before + square
