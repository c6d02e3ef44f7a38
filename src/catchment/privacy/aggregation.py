"""Differential privacy around a linear strategy: clip each update, noise the sum, fix the denominator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from catchment.models.interfaces import Sink, Tensors
from catchment.privacy.clipping import clip_factor, update_norm
from catchment.privacy.noise import NoiseSource, add_gaussian
from catchment.privacy.plan import Plan
from catchment.strategies.base import Cohort, Context, LinearStrategy, Outcome, Strategy
from catchment.strategies.sums import ClientUpdate, Sums


@dataclass
class Noised:
    """What was done to a round's sum.

    Attributes:
        clip_norm: the round's clipping norm; None: no clipping.
        noise_std: of the noise on each element of the sum, as the coordinator added it, or the sites under
            their masks.
        denominator: what the sum was divided by.
        unclipped: how many updates were shorter than the clipping norm. No noise is on it: not to be shown.
        weights: what each update counted, the clip factor included.
    """

    clip_norm: float | None
    noise_std: float = 0.0
    denominator: float = 0.0
    unclipped: int = 0
    weights: list[float] = field(default_factory=list)


class PrivateSum(Strategy):
    """A linear strategy whose sums are clipped and noised as a plan says, before it finishes them.

    With a clip every update counts alike, so that one client moves the sum by at most `clip_norm`, and the
    sum is divided by the plan's cohort, however many reported: the number of reports could tell of a
    client. Integer and boolean tensors cannot be noised and keep the values of the round's weights.

    Attributes:
        plan: the job's.
        noised: what was done, after `aggregate`.
    """

    def __init__(
        self, inner: LinearStrategy, plan: Plan, clip_norm: float | None, noise: NoiseSource | None = None
    ) -> None:
        """Put the plan around a strategy.

        Args:
            inner: of uniform weighting where there is a clip.
            plan: the job's. Under `placement: site` the updates are clipped and noised already.
            clip_norm: of this round; None: no clipping.
            noise: where the noise comes from; by default a new source.
        """
        self.name, self.params = inner.name, inner.params  # type: ignore[misc]
        self.noised = Noised(clip_norm)
        self.plan = plan
        self._inner, self._noise = inner, noise

    def check(self, update: Tensors) -> None:
        """As the strategy's."""
        self._inner.check(update)

    def aggregate(self, cohort: Cohort, weights: Tensors, context: Context, writer: Sink) -> Outcome:
        """Stream the updates through the sums, noise those, let the strategy finish."""
        sums = self._inner.begin(weights, context)
        for updates in cohort.batches():
            sums.add(updates, self._weights(updates))
            sums.settle()
        if sums.num_updates:
            self._add_noise(sums)
        self.noised.denominator = sums.total_weight
        sums.others = {
            name: weights.array(name) for name, info in weights.signature.items() if not info.is_float
        }
        return self._inner.finish(sums, weights, context, writer)

    def _weights(self, updates: Sequence[ClientUpdate]) -> list[float]:
        noised = self.noised
        if noised.clip_norm is None:
            found = [self._inner.weight(update) for update in updates]
        elif self.plan.placement == "site":
            found = [1.0 for _ in updates]
        else:
            found = [clip_factor(update_norm(update.tensors), noised.clip_norm) for update in updates]
        noised.unclipped += sum(weight == 1.0 for weight in found)
        noised.weights += found
        return found

    def _add_noise(self, sums: Sums) -> None:
        source, noised = self._noise or NoiseSource(), self.noised
        noised.noise_std = self.plan.sum_std(noised.clip_norm, noised.weights)
        with np.errstate(over="ignore", invalid="ignore"):  # the strategy refuses what is not finite
            for values in sums.floats.values():
                add_gaussian(source, values, noised.noise_std, same=self.plan.same_noise)
        if noised.clip_norm is not None:
            sums.total_weight = float(self.plan.cohort)
