"""Norm clipping: a mean in which no update is longer than the others."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from catchment.models.interfaces import Sink, Tensors
from catchment.strategies.base import Cohort, Context, Outcome, Strategy, StrategyParams, Weighting
from catchment.strategies.robust import lower_medians, norms, some
from catchment.strategies.sums import Sums
from catchment.strategies.writing import Floats, write_changed


class NormClipping(Strategy):
    """Mean of updates that are scaled down to a norm (Sun et al. 2019).

    `w' = w + learning_rate * mean_k(D_k * min(1, S / ||D_k||))`, over all float tensors together. S is
    `clip_norm`, or the median of the round's norms. It bounds what a client can do, and lets through what
    is wrong within the bound.
    """

    name = "norm_clipping"

    class Params(StrategyParams):
        """`clip_norm` is S, by default the median of the norms; `weighting: samples` weighs by samples."""

        clip_norm: Annotated[float, Field(gt=0)] | None = None
        weighting: Weighting = "uniform"

    params: Params

    def aggregate(self, cohort: Cohort, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Write the new weights; the metrics say how many updates were clipped."""
        with cohort.opened() as found:
            updates = some(found)
            lengths = norms(updates, weights)
            limit = self.params.clip_norm or float(np.median(lengths))
            counts = np.ones(len(updates))
            if self.params.weighting == "samples":
                counts = np.array([float(update.num_samples) for update in updates])
            sums = Sums(weights.signature)
            sums.add(updates, (counts * factors(lengths, limit)).tolist())
            step = context.learning_rate / float(counts.sum())
            write_changed(
                weights,
                lower_medians(updates, weights.signature),
                writer,
                lambda name, start, stop: sums.block(name, start, stop) * step,
            )
        return Outcome(metrics={"clip_norm": limit, "clipped": int((lengths > limit).sum())})


def factors(lengths: Floats, limit: float) -> Floats:
    """What scales vectors of these lengths down to the limit; 1 for those that are shorter."""
    clipped: Floats = np.divide(limit, lengths, out=np.ones_like(lengths), where=lengths > limit)
    return clipped
