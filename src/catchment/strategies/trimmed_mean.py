"""The mean of the updates, coordinate by coordinate, without the smallest and the largest values."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from catchment.models.interfaces import Sink, Tensors
from catchment.strategies.base import Cohort, Context, Outcome, Strategy, StrategyParams
from catchment.strategies.robust import block_elements, lower_medians, some, stacked
from catchment.strategies.writing import Floats, write_changed


class TrimmedMean(Strategy):
    """Coordinate-wise trimmed mean (Yin et al. 2018).

    Of each coordinate's n values the `ceil(trim * n)` smallest and as many largest are left out, but never
    all of them: `w' = w + learning_rate * mean(the rest)`. Right while no more than a share `trim` of the
    clients is wrong.
    """

    name = "trimmed_mean"

    class Params(StrategyParams):
        """`trim` is the share that is left out at each end."""

        trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.2

    params: Params

    def aggregate(self, cohort: Cohort, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Write the new weights."""
        with cohort.opened() as found:
            updates = some(found)
            cut = trimmed(len(updates), self.params.trim)

            def change(name: str, start: int, stop: int) -> Floats:
                rows = np.sort(stacked(updates, name, start, stop), axis=0)
                rest: Floats = rows[cut : len(updates) - cut].mean(axis=0)
                return context.learning_rate * rest

            others = lower_medians(updates, weights.signature)
            write_changed(weights, others, writer, change, block_elements(len(updates)))
        return Outcome(metrics={"trimmed": cut})


def trimmed(num_updates: int, trim: float) -> int:
    """How many values are left out at each end."""
    # The product of a decimal share may lie a hair above the integer that was meant.
    return min(math.ceil(round(trim * num_updates, 6)), (num_updates - 1) // 2)
