"""Numbers as elements of the ring of 32-bit words, with room for the sum of all parties' numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catchment.errors import BadTensors

Words = NDArray[np.uint32]
Floats = NDArray[np.float64]

LARGEST = 2**31 - 1
"""Largest sum that int32 holds; its negative is held as well."""

BLOCK_ELEMENTS = 1 << 15
"""Elements worked on at a time: 256 KiB of float64 stay in a core's cache."""


@dataclass(frozen=True)
class Quantiser:
    """Fixed point with `scale` steps a unit, so that the sum over `parties` never wraps around.

    One party's number is at most `bound = floor((2^31 - 1) / parties)`, so the sum of all is within
    +-(2^31 - 1), and the signed reading of the ring's sum is the true sum. A sum of quantised values is off
    by at most `parties / (2 scale)`, its mean by `1 / (2 scale)`.

    Attributes:
        clip: values are clipped to +-clip before they are quantised.
        parties: how many parties may take part, at most.
    """

    clip: float
    parties: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise ValueError(f"clip is {self.clip}, it must be finite and above 0")
        if not 1 <= self.parties <= LARGEST:
            raise ValueError(f"parties is {self.parties}, it must be between 1 and {LARGEST}")
        if not math.isfinite(self.scale):
            raise ValueError(f"clip is {self.clip}, too small to be divided into {self.bound} steps")

    @property
    def bound(self) -> int:
        """The largest absolute value of one party's integer."""
        return LARGEST // self.parties

    @property
    def scale(self) -> float:
        """Steps a unit. `clip * scale` rounds to `bound`: float64's own errors are far below half a step."""
        return self.bound / self.clip

    @property
    def largest_count(self) -> int:
        """The largest count that each party may add to one unsigned word."""
        return (2 * LARGEST + 1) // self.parties

    def encode(self, values: NDArray[Any], out: Words, weight: float = 1.0) -> int:
        """Write `rint(clip(values) * weight * scale)` to `out`; how many values were clipped.

        Args:
            values: flat, floating point.
            out: as many words.
            weight: 0 to 1, the party's share of the largest weight.

        Raises:
            BadTensors: a value is NaN or infinite. `out` may be half written.
        """
        if not 0.0 <= weight <= 1.0:
            raise ValueError(f"weight is {weight}, it must be between 0 and 1")
        factor, clipped = weight * self.scale, 0
        signed = out.view(np.int32)
        scratch = np.empty(min(BLOCK_ELEMENTS, values.size), np.float64)
        for start in range(0, values.size, BLOCK_ELEMENTS):
            block = values[start : start + BLOCK_ELEMENTS]
            work = scratch[: block.size]
            work[:] = block
            largest = max(-float(work.min()), float(work.max()))
            if not math.isfinite(largest):
                raise BadTensors("NaN or infinite values cannot be quantised")
            if largest > self.clip:
                clipped += int(np.count_nonzero(np.abs(work) > self.clip))
                np.clip(work, -self.clip, self.clip, out=work)
            np.multiply(work, factor, out=work)
            np.rint(work, out=work)
            signed[start : start + block.size] = work
        return clipped

    def encode_integers(self, values: NDArray[np.int64], out: Words) -> None:
        """Write integers as they are.

        Raises:
            BadTensors: one is outside of +-bound, so the sum could wrap around.
        """
        if values.size and not (-self.bound <= int(values.min()) and int(values.max()) <= self.bound):
            raise BadTensors(f"integers beyond +-{self.bound} do not fit a secure sum of {self.parties}")
        out.view(np.int32)[:] = values

    def decode(self, words: Words) -> Floats:
        """The sum of the values (times their weights), float64."""
        return words.view(np.int32) / self.scale


def signed(words: Words) -> NDArray[np.int64]:
    """A sum of integers."""
    return words.view(np.int32).astype(np.int64)
