"""The geometric median of the updates: the point with the smallest sum of distances to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from catchment.models.interfaces import Sink, Tensors
from catchment.strategies.base import Cohort, Context, Outcome, Strategy, StrategyParams
from catchment.strategies.robust import block_elements, float_blocks, lower_medians, some, stacked
from catchment.strategies.sums import ClientUpdate
from catchment.strategies.writing import Floats, write_changed


class GeometricMedian(Strategy):
    """Smoothed Weiszfeld iterations (Pillutla et al. 2022, RFA), each client alike.

    The point is always a mean `z = sum_k(a_k * D_k)`, so only the shares a_k are kept: they begin equal, and
    each iteration sets `a_k ~ 1 / max(nu, ||D_k - z||)`. Then `w' = w + learning_rate * z`.
    """

    name = "geometric_median"

    class Params(StrategyParams):
        """`iterations` each read all updates once; `nu` keeps a point that meets an update from sticking."""

        iterations: Annotated[int, Field(ge=1, le=1000)] = 10
        nu: Annotated[float, Field(gt=0)] = 1e-6

    params: Params

    def aggregate(self, cohort: Cohort, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Write the new weights; the metrics say what each site's update counted."""
        with cohort.opened() as found:
            updates = some(found)
            shares = np.full(len(updates), 1 / len(updates))
            for _ in range(self.params.iterations):
                closeness = 1 / np.maximum(self.params.nu, self._lengths(updates, weights, shares))
                shares = closeness / closeness.sum()

            def change(name: str, start: int, stop: int) -> Floats:
                point: Floats = shares @ stacked(updates, name, start, stop)
                return context.learning_rate * point

            others = lower_medians(updates, weights.signature)
            write_changed(weights, others, writer, change, block_elements(len(updates)))
        told = {update.site: round(float(share), 6) for update, share in zip(updates, shares, strict=True)}
        return Outcome(metrics={"shares": told})

    def _lengths(self, updates: Sequence[ClientUpdate], weights: Tensors, shares: Floats) -> Floats:
        """Distances of all updates from the point with these shares."""
        squares = np.zeros(len(updates))
        with np.errstate(over="ignore"):
            for rows in float_blocks(updates, weights):
                away = rows - shares @ rows
                squares += np.einsum("ij,ij->i", away, away)
        return np.sqrt(squares)
