"""Masks are AES-128-CTR's keystream, cancel exactly, and are never given twice."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from catchment.secagg.masks import CHUNK_WORDS, add_into, apply_masks

SIZES = [0, 1, 3, 4, 5, CHUNK_WORDS - 1, CHUNK_WORDS, CHUNK_WORDS + 1, 3 * CHUNK_WORDS + 7]


def keystream(seed: bytes, size: int) -> np.ndarray:
    cipher = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(cipher.update(bytes(4 * size)), "<u4")


@pytest.mark.parametrize("size", SIZES)
def test_a_mask_is_the_keystream_whatever_the_vectors_length(size: int) -> None:
    vector = np.arange(size, dtype=np.uint32)
    apply_masks(vector, [bytes(16)])
    assert np.array_equal(vector, np.arange(size, dtype=np.uint32) + keystream(bytes(16), size))


@settings(max_examples=30)
@given(st.lists(st.binary(min_size=16, max_size=16), unique=True, max_size=6), st.sampled_from(SIZES))
def test_what_one_adds_and_another_subtracts_cancels(seeds: list[bytes], size: int) -> None:
    one, other = np.full(size, 7, np.uint32), np.full(size, 2**32 - 3, np.uint32)
    apply_masks(one, seeds)
    apply_masks(other, (), seeds)
    add_into(one, other)
    assert np.array_equal(one, np.full(size, 4, np.uint32))


def test_a_seed_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        apply_masks(np.zeros(1, np.uint32), [b"short"])


def test_the_same_seed_twice_is_refused() -> None:
    for plus, minus in (([bytes(16)] * 2, []), ([bytes(16)], [bytes(16)])):
        with pytest.raises(ValueError, match="twice"):
            apply_masks(np.zeros(1, np.uint32), plus, minus)
