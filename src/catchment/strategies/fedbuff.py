"""FedBuff: buffered asynchronous rounds, in which late updates count less instead of not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from catchment.models.interfaces import Sink, Tensors
from catchment.models.signature import Signature
from catchment.strategies.base import Context, LinearStrategy, Outcome, StrategyParams, mean_step
from catchment.strategies.sums import ClientUpdate, Sums
from catchment.strategies.vectors import sent_signature
from catchment.strategies.writing import write_changed


class StaleSums(Sums):
    """Sums that know how many rounds each site's update is behind."""

    def __init__(self, signature: Signature, staleness: Mapping[str, int]) -> None:
        super().__init__(signature)
        self.staleness = staleness


class FedBuff(LinearStrategy):
    """Buffered asynchronous aggregation (Nguyen et al. 2022).

    A round commits as soon as K updates have arrived, whichever round they began in; sites that are not
    done go on. With s_k the rounds that were committed since update k began:
    `w' = w + learning_rate / K * sum_k(D_k / sqrt(1 + s_k))`, each client alike.
    """

    name = "fedbuff"
    linear = False  # what an update counts depends on when it arrives, and no cohort is fixed beforehand
    weighting = "uniform"

    class Params(StrategyParams):
        """`buffer_size` is K, by default threshold_client_num; `max_staleness` bounds s_k."""

        buffer_size: Annotated[int, Field(ge=1)] | None = None
        max_staleness: Annotated[int, Field(ge=0)] = 10

    params: Params

    def begin(self, weights: Tensors, context: Context) -> StaleSums:
        """Empty sums."""
        return StaleSums(sent_signature(weights.signature, algorithm=self.name), context.staleness)

    def accumulate(self, sums: Sums, updates: Sequence[ClientUpdate]) -> None:
        """Add updates, those that are behind with less weight."""
        behind = sums.staleness if isinstance(sums, StaleSums) else {}
        sums.add(updates, [1 / math.sqrt(1 + behind.get(update.site, 0)) for update in updates])

    def finish(self, sums: Sums, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Write the new weights; the metrics say how far each site's update was behind."""
        mean_step(sums, context)
        step = context.learning_rate / sums.num_updates
        write_changed(
            weights, sums.others, writer, lambda name, start, stop: sums.block(name, start, stop) * step
        )
        return Outcome(metrics={"staleness": dict(sorted(context.staleness.items()))})
