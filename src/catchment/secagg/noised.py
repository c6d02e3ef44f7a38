"""Vectors of secure aggregation with differential privacy: clipped, and with a share of discrete noise.

The distributed discrete Gaussian mechanism (Kairouz, Liu, Steinke 2021), in the variant whose guarantee is
easiest to check. In steps of the grid, where L is the largest integer up to `clip_norm * scale`:

* An update of d elements is scaled to a norm of at most L - sqrt(d) / 2, then rounded to nearest integers.
  That moves each by a half at most, so the rounded norm is at most L, and nothing is left to be allowed for.
  (The paper rounds at random, which saves part of sqrt(d) / 2; in 32 bits that is little beside L.)
* Each site adds discrete Gaussian noise of std s = noise_multiplier * L / sqrt(sharers) to each element.
* The ring's sum is exact. The noise of `sharers` sites has the variance (noise_multiplier * L)^2. With
  s >= MIN_SHARE_STD the paper's tau, which says how far it is from one discrete Gaussian, is below
  10 n exp(-pi^2 s^2) < n * 10^-272. So the sum's Renyi curve is that of the Gaussian mechanism, to more
  places than doubles have. Noise of further sites is post-processing of it, and so is what the ring does.

No sum wraps: room is left for n updates and for TAIL times the std of n shares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from catchment.errors import BadTensors
from catchment.models.reading import TensorFile
from catchment.models.signature import Signature
from catchment.models.updates import blocks, check_finite
from catchment.privacy.clipping import clip_factor, update_norm
from catchment.privacy.noise import NoiseSource
from catchment.secagg.quantise import Quantiser, Words
from catchment.secagg.vector import HEADER_WORDS, Layout
from catchment.wire.secagg import SecureOrder, SharedNoise

MIN_SHARE_STD = 8.0
TAIL = 12.0
"""A sum of discrete Gaussians is beyond so many std with probability 2 exp(-72) at most, about 10^-31."""
MAX_ROUNDING = 0.1
"""The share of `clip_norm` that rounding may take."""


@dataclass(frozen=True)
class Grid:
    """How numbers of noised updates become integers.

    Attributes:
        noise: of the order.
        parties: how many sites may be in the sum.
    """

    noise: SharedNoise
    parties: int

    @property
    def quantiser(self) -> Quantiser:
        """Its `clip` is a site's room: the clipping norm, and its part of the tail of all sites' noise."""
        tail = TAIL * self.noise.noise_multiplier / math.sqrt(self.parties * self.noise.sharers)
        return Quantiser(self.noise.clip_norm * (1.0 + tail), self.parties)

    @property
    def reach(self) -> int:
        """L, the largest norm of a rounded update."""
        # Exact: a product that is rounded up could lie above the norm, which is what is promised.
        return math.floor(Fraction(self.noise.clip_norm) * Fraction(self.quantiser.scale))

    @property
    def share_std(self) -> float:
        """Of one site's noise, in steps of the grid."""
        return self.noise.noise_multiplier * self.reach / math.sqrt(self.noise.sharers)

    def problem(self, num_elements: int = 1) -> str:
        """Why updates of so many elements cannot be noised on this grid; empty where they can.

        The clipping norm itself does not matter: the grid is as fine as 32 bits allow.
        """
        rounding = math.sqrt(num_elements) / 2.0
        if rounding > MAX_ROUNDING * self.reach:
            return (
                f"in 32 bits clip_norm is {self.reach} steps beside the noise of {self.parties} sites, and "
                f"rounding {num_elements} elements may take {rounding:.4g} of them, more than a tenth"
            )
        if 0.0 < self.share_std < MIN_SHARE_STD:
            return (
                f"a site's share of the noise is {self.share_std:.4g} steps of the finest grid that the sum "
                f"of {self.parties} sites leaves in 32 bits, and discrete noise needs {MIN_SHARE_STD:g}"
            )
        return ""


class NoisedLayout(Layout):
    """The layout of noised vectors.

    All sites count alike, and nothing is told of their numbers of samples or of clipping. Integers cannot be
    noised: they are zeros.

    Args:
        signature: of what a client sends.
        noise: of the order.
        parties: how many sites may be in the sum.
    """

    def __init__(self, signature: Signature, noise: SharedNoise, parties: int) -> None:
        self.grid = Grid(noise, parties)
        super().__init__(signature, self.grid.quantiser, sample_cap=1, by_samples=False)
        self.num_floats = sum(info.num_elements for info in signature.values() if info.is_float)

    def encode(
        self, update: TensorFile, weights: TensorFile, num_samples: int, source: NoiseSource | None = None
    ) -> Words:
        """The clipped, rounded and noised vector of an update; by default with noise of a new source.

        Raises:
            BadTensors: it holds NaN or infinite values, or the grid does not suit it.
        """
        noise = source or NoiseSource()
        vector = np.zeros(self.num_words, np.uint32)
        vector[:HEADER_WORDS] = 1, 1, 0, 0
        factor, squares = self._factor(update), 0
        for name, info in self.signature.items():
            begin = self.places[name][0]
            for start, stop in blocks(info.num_elements) if info.is_float else ():
                steps = np.rint(update.block(name, start, stop, np.float64) * factor).astype(np.int64)
                squares += int(np.dot(steps, steps))
                steps += noise.discrete_gaussian(steps.size, self.grid.share_std)
                vector[begin + start : begin + stop] = (steps & 0xFFFFFFFF).astype(np.uint32)
        if squares > self.grid.reach**2:  # what the guarantee stands on is looked at, not only derived
            raise BadTensors("the rounded update is longer than clip_norm")
        return vector

    def _factor(self, update: TensorFile) -> float:
        """From an update's unit to steps of the grid; the rounded update is no longer than `reach`."""
        if problem := self.grid.problem(self.num_floats):
            raise BadTensors(problem)
        check_finite(update)
        scale = self.quantiser.scale
        return (
            clip_factor(update_norm(update), (self.grid.reach - math.sqrt(self.num_floats) / 2.0) / scale)
            * scale
        )


def layout_of(order: SecureOrder, signature: Signature) -> Layout:
    """The layout that coordinator and sites derive alike, with or without noise."""
    parties = len(order.plan.cohort)
    if order.noise is not None:
        return NoisedLayout(signature, order.noise, parties)
    quantiser = Quantiser(order.clip_value, parties)
    return Layout(signature, quantiser, sample_cap=order.sample_cap, by_samples=order.by_samples)
