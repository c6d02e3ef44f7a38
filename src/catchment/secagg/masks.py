"""Masks: words from AES-128 in counter mode, added to a vector or subtracted while it is in the cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from catchment.secagg.quantise import Words

SEED_BYTES = 16
CHUNK_WORDS = 1 << 15
"""128 KiB: chunk, keystream and zeros fit a core's second-level cache together."""

_WORD = 4
_AES_BLOCK = 16
_ZEROS = bytes(CHUNK_WORDS * _WORD)


def apply_masks(vector: Words, plus: Sequence[bytes] = (), minus: Sequence[bytes] = ()) -> None:
    """Add the masks of the seeds in `plus` to `vector` and subtract those in `minus`, modulo 2^32, in place.

    The mask of a seed is the keystream of AES-128-CTR from counter 0, as little-endian words. The outer loop
    goes over chunks, the inner one over seeds, so that a chunk is loaded once.

    Raises:
        ValueError: a seed is not 16 bytes long, or stands there twice (masks would cancel or double).
    """
    seeds = [*plus, *minus]
    if any(len(seed) != SEED_BYTES for seed in seeds):
        raise ValueError(f"a seed must have {SEED_BYTES} bytes")
    if len(set(seeds)) != len(seeds):
        raise ValueError("the same seed is given twice")
    adding = [_keystream(seed) for seed in plus]
    taking = [_keystream(seed) for seed in minus]
    buffer = bytearray(CHUNK_WORDS * _WORD + _AES_BLOCK - 1)  # update_into asks for this much room
    mask = np.frombuffer(buffer, "<u4", CHUNK_WORDS)
    zeros = memoryview(_ZEROS)
    for start in range(0, vector.size, CHUNK_WORDS):
        part = vector[start : start + CHUNK_WORDS]
        given, drawn = zeros[: part.size * _WORD], mask[: part.size]
        for stream in adding:
            stream.update_into(given, buffer)
            np.add(part, drawn, out=part)
        for stream in taking:
            stream.update_into(given, buffer)
            np.subtract(part, drawn, out=part)


def add_into(total: Words, vector: Words) -> None:
    """Add a masked vector to the running sum, modulo 2^32."""
    np.add(total, vector, out=total)


def _keystream(seed: bytes) -> CipherContext:
    # A seed serves one vector and is never used again, so the counter may begin at 0.
    return Cipher(algorithms.AES(seed), modes.CTR(bytes(_AES_BLOCK))).encryptor()
