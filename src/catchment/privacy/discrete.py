"""Integers with a discrete Gaussian distribution, P(y) proportional to exp(-y^2 / (2 std^2)).

Rejection from a discrete Laplace distribution (Canonne, Kamath, Steinke 2020), all of a block at once.
Doubles decide wherever they surely can; the few candidates closer to a decision than doubles can be trusted
are decided with 80 digits and 128 more random bits. So no draw is further than 2^-100 from the exact
distribution (in total variation), whatever `std`, and a guarantee needs no allowance for the sampler.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Draw = Callable[[int], Words]
"""So many independent uniform words of 64 bits."""

MAX_STD = 2.0**40
"""Below it doubles hold every draw, which is shorter than 100 times its scale."""

_SURELY_ZERO_STD = 2.0**-8
"""Below it a draw other than 0 comes with probability exp(-32768)."""
_DOUBT = 2.0**-40
"""The doubles' own errors are below 2^-49 for probabilities, and below 2^-49 / u for the logarithm of u."""
_EXACT = Context(prec=80)


def discrete_gaussian(words: Draw, candidates: int, std: float) -> NDArray[np.int64]:
    """Those of so many candidates that are accepted, a third to a half of them; each is a draw.

    A candidate's size is low + high * scale, `low` uniform below `scale` and P(high >= k) = exp(-k). It is
    kept with probability exp(-(size - std^2 / scale)^2 / (2 std^2) - low / scale). As the scale is a power
    of two, `low` is uniform without a rest.

    Args:
        words: where the randomness comes from.
        candidates: how many.
        std: of the distribution's formula, below MAX_STD.
    """
    if std < _SURELY_ZERO_STD:
        return np.zeros(candidates, np.int64)
    bits = max(0, round(math.log2(std)))
    scale = float(1 << bits)
    raw = words(3 * candidates).reshape(3, candidates)
    negative = (raw[0] & np.uint64(1)).astype(bool)
    low = ((raw[0] >> np.uint64(1)) & np.uint64((1 << bits) - 1)).astype(np.float64)
    first, second = _uniform(raw[1]), _uniform(raw[2])
    exponential = -np.log(first)
    high = np.floor(exponential)
    size = low + high * scale
    centred = size - std * std / scale
    likely = np.exp(-(centred * centred) / (2.0 * std * std) - low / scale)
    kept = second < likely
    doubtful = np.abs(exponential - np.rint(exponential)) < _DOUBT + 2.0**-49 / first
    doubtful |= np.abs(second - likely) < _DOUBT
    for place in np.flatnonzero(doubtful):
        size[place], kept[place] = settled(words, int(low[place]), raw[1:, place], std, bits)
    kept &= ~(negative & (size == 0.0))  # zero must not count twice
    drawn: NDArray[np.int64] = np.where(negative, -size, size)[kept].astype(np.int64)
    return drawn


def settled(words: Draw, low: int, raw: Words, std: float, bits: int) -> tuple[int, bool]:
    """One candidate with 80 digits: its size, and whether it is kept.

    Args:
        words: more randomness, which continues the two uniforms' binary places.
        low: of the candidate.
        raw: the two words that its uniforms begin with.
        std: of the distribution.
        bits: log2 of the scale.
    """
    more = words(4)
    with localcontext(_EXACT):
        first, second = (
            Decimal((int(word) << 128) + (int(more[2 * i]) << 64) + int(more[2 * i + 1])) / 2**192
            for i, word in enumerate(raw)
        )
        high = math.floor(-first.ln()) if first else 192
        scale, variance = Decimal(1 << bits), Decimal(std) ** 2
        size = low + high * (1 << bits)
        exponent = (size - variance / scale) ** 2 / (2 * variance) + Decimal(low) / scale
        return size, second < (-exponent).exp()


def _uniform(raw: Words) -> NDArray[np.float64]:
    """The middle of the 2^-53 wide cell that a word's number in (0, 1) lies in."""
    return ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
