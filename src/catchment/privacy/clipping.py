"""Clipping: the norm of a whole update, the factor that bounds it, and a bound that follows the norms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from catchment.models.interfaces import Tensors
from catchment.models.updates import blocks
from catchment.privacy.noise import NoiseSource

_MARGIN = 1.0 - 1e-9
"""A clipped update stays a hair below the bound, so that no rounding of its factor carries it above."""


def update_norm(tensors: Tensors) -> float:
    """L2 norm of all floating-point elements together, buffers and algorithms' own vectors included.

    Read in blocks. Infinite where the squares overflow a double.
    """
    total = 0.0
    for name, info in tensors.signature.items():
        if not info.is_float:
            continue
        for start, stop in blocks(info.num_elements):
            block = tensors.block(name, start, stop, np.float64)
            with np.errstate(over="ignore"):
                total += float(np.dot(block, block))
    return math.sqrt(total)


def clip_factor(norm: float, clip_norm: float | None) -> float:
    """What to multiply an update of that norm by, so that its norm is at most `clip_norm`; None: 1."""
    if clip_norm is None or norm <= clip_norm:
        return 1.0
    return clip_norm / norm * _MARGIN


@dataclass(frozen=True)
class AdaptiveClip:
    """A clipping norm that follows a quantile of the updates' norms (Andrew et al. 2021).

    Attributes:
        quantile: share of the clients whose updates shall stay unclipped (gamma).
        rate: how fast the norm follows (eta_C).
        count_noise: std of the noise on the number of unclipped clients (sigma_b).
    """

    quantile: float
    rate: float
    count_noise: float

    def sum_multiplier(self, noise_multiplier: float) -> float:
        """Noise multiplier of the sum, so that sum and count together cost as `noise_multiplier` does.

        `(z^-2 - (2 sigma_b)^-2)^(-1/2)`: the count enters as `b - 1/2`, whose sensitivity is 1/2.

        Raises:
            ValueError: the count alone would cost more; `count_noise` must be above half of it.
        """
        if noise_multiplier == 0.0:
            return 0.0
        left = noise_multiplier**-2 - (2.0 * self.count_noise) ** -2
        if left <= 0.0:
            raise ValueError(
                f"count_noise must be above half of noise_multiplier, {noise_multiplier / 2:g}, "
                f"got {self.count_noise:g}"
            )
        return float(left**-0.5)

    def noised_share(self, unclipped: int, reports: int, cohort: int, noise: NoiseSource) -> float:
        """The share of unclipped updates, with noise, between 0 and 1.

        Args:
            unclipped: how many updates had a norm of at most the clipping norm.
            reports: how many updates there were.
            cohort: the fixed number that sums are divided by.
            noise: source of the noise on the count.
        """
        centred = unclipped - reports / 2.0 + float(noise.gaussian(1, self.count_noise)[0])
        return min(1.0, max(0.0, centred / cohort + 0.5))

    def next_norm(self, clip_norm: float, share: float) -> float:
        """The next round's clipping norm: `S exp(-rate (share - quantile))`."""
        return clip_norm * math.exp(-self.rate * (share - self.quantile))
