"""Noise for differential privacy, from the operating system's randomness; no seed can be given."""

from __future__ import annotations

import math
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from catchment.privacy.discrete import MAX_STD, discrete_gaussian

Floats = NDArray[np.float64]

BLOCK_DRAWS = 1 << 15
"""Draws made at a time: keystream, uniforms and result stay in a core's cache."""

_GRID_BITS = 32


class NoiseSource:
    """Gaussian noise out of an AES-256-CTR keystream whose key the operating system drew.

    The keystream is what `cryptography` offers at gigabytes a second; telling it from true randomness would
    break AES. A source is for one process and one thread: it must not be carried over a fork, which would
    repeat its noise.
    """

    def __init__(self) -> None:
        cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16)))
        self._keystream: CipherContext = cipher.encryptor()
        self._zeros = bytes(16 * BLOCK_DRAWS)
        self._buffer = bytearray(16 * BLOCK_DRAWS + 15)
        self._pid = os.getpid()

    def gaussian(self, size: int, std: float) -> Floats:
        """Independent draws of N(0, std^2), each a multiple of `grid(std)`.

        Box and Muller's transform of 53-bit uniforms, so |draw| <= 8.6 std. Multiples of a power of two far
        below `std` leave no trace of a double's low bits, through which a sum could be told from its noise
        (Mironov 2012): where the sum is rounded to the same grid, adding is exact, and rounding the noise is
        post-processing of the Gaussian mechanism.
        """
        draws = np.empty(size)
        if std <= 0.0:
            draws.fill(0.0)
            return draws
        step = grid(std)
        for start in range(0, size, BLOCK_DRAWS):
            part = draws[start : start + BLOCK_DRAWS]
            pairs = (part.size + 1) // 2
            uniforms = self.uniforms(2 * pairs)
            radius = np.sqrt(-2.0 * np.log(uniforms[:pairs])) * (std / step)
            angle = uniforms[pairs:] * (2.0 * math.pi)
            part[:pairs] = np.rint(radius * np.cos(angle))
            part[pairs:] = np.rint(radius * np.sin(angle))[: part.size - pairs]
            part *= step
        return draws

    def discrete_gaussian(self, size: int, std: float) -> NDArray[np.int64]:
        """Independent integers with P(y) proportional to exp(-y^2 / (2 std^2)).

        As good as exact (`privacy.discrete`): a guarantee needs no allowance for the sampler.

        Raises:
            ValueError: `std` is not below 2^40; doubles could not hold the draws exactly.
        """
        if not 0.0 <= std < MAX_STD:
            raise ValueError(f"a discrete Gaussian's std must be between 0 and 2^40, got {std!r}")
        drawn = np.zeros(size, np.int64)
        filled = size if std == 0.0 else 0
        while filled < size:
            candidates = min(BLOCK_DRAWS // 2, 3 * (size - filled) + 64)
            accepted = discrete_gaussian(self.words, candidates, std)
            taken = accepted[: size - filled]
            drawn[filled : filled + taken.size] = taken
            filled += taken.size
        return drawn

    def uniforms(self, size: int) -> Floats:
        """Independent uniforms in (0, 1), odd multiples of 2^-54; neither 0 nor 1 can come."""
        return ((self.words(size) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53

    def words(self, size: int) -> NDArray[np.uint64]:
        """Independent uniform words of 64 bits."""
        if os.getpid() != self._pid:
            raise RuntimeError("a source of noise must not be used after a fork: its noise would repeat")
        words = np.empty(size, np.uint64)
        flat = words.view(np.uint8)
        step = len(self._zeros)
        for start in range(0, flat.size, step):
            length = min(step, flat.size - start)
            self._keystream.update_into(memoryview(self._zeros)[:length], self._buffer)
            flat[start : start + length] = np.frombuffer(self._buffer, np.uint8, length)
        return words


def grid(std: float) -> float:
    """The power of two, 2^-32 to 2^-33 of `std`, that noise and the sums under it are multiples of."""
    return math.ldexp(1.0, max(math.frexp(std)[1] - 1 - _GRID_BITS, -1022))


def add_gaussian(source: NoiseSource, values: Floats, std: float, *, same: bool = False) -> None:
    """Round `values` (flat float64) to the noise's grid and add N(0, std^2) to them, in place.

    Args:
        source: where the noise comes from.
        values: changed; one tensor's elements.
        std: of each element's noise; 0 leaves the values as they are.
        same: one draw for all elements, as the document's adding_same_noise asks; no guarantee follows.
    """
    if std <= 0.0:
        return
    step = grid(std)
    shared = source.gaussian(1, std)[0] if same else 0.0
    for start in range(0, values.size, BLOCK_DRAWS):
        part = values[start : start + BLOCK_DRAWS]
        np.divide(part, step, out=part)
        np.rint(part, out=part)
        part *= step
        part += shared if same else source.gaussian(part.size, std)
