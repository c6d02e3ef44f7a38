"""The median of the updates, coordinate by coordinate."""

from __future__ import annotations

import numpy as np

from catchment.models.interfaces import Sink, Tensors
from catchment.strategies.base import Cohort, Context, Outcome, Strategy
from catchment.strategies.robust import block_elements, lower_medians, some, stacked
from catchment.strategies.writing import Floats, write_changed


class Median(Strategy):
    """Coordinate-wise median (Yin et al. 2018): right as long as fewer than half of the clients are wrong.

    `w' = w + learning_rate * median_k(D_k)`; of an even number, the mean of the two in the middle.
    """

    name = "median"

    def aggregate(self, cohort: Cohort, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Write the new weights."""
        with cohort.opened() as found:
            updates = some(found)

            def change(name: str, start: int, stop: int) -> Floats:
                middle: Floats = np.median(stacked(updates, name, start, stop), axis=0, overwrite_input=True)
                return context.learning_rate * middle

            others = lower_medians(updates, weights.signature)
            write_changed(weights, others, writer, change, block_elements(len(updates)))
        return Outcome()
