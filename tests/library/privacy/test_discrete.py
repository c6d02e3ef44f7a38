"""The sampler of discrete noise: exact where doubles cannot decide."""

from __future__ import annotations

import math

import numpy as np
import pytest

from catchment.privacy import discrete
from catchment.privacy.noise import NoiseSource


def scripted(*values: int):
    """A source of just these words."""
    left = list(values)

    def words(size: int):
        taken, left[:] = left[:size], left[size:]
        assert len(taken) == size
        return np.array(taken, np.uint64)

    return words


def word_of(probability: float, add: int = 0) -> int:
    return int(probability * 2.0**64) + add


@pytest.mark.parametrize("std", [0.3, 1.0, 2.9, 64.0, 1e6])
def test_what_doubles_decide_is_what_80_digits_decide(std, monkeypatch):
    """The same words give the same draws when every candidate is settled exactly."""
    words = NoiseSource().words(3 * 2000)
    quick = discrete.discrete_gaussian(lambda size: words if size == words.size else words[:4], 2000, std)
    monkeypatch.setattr(discrete, "_DOUBT", 2.0)
    spare = NoiseSource()
    exact = discrete.discrete_gaussian(
        lambda size: words if size == words.size else spare.words(size), 2000, std
    )
    np.testing.assert_array_equal(quick, exact)


def test_a_candidate_at_the_edge_of_acceptance_is_decided_by_more_bits():
    std, low = 2.0, 1  # scale 2, high 0: size 1, kept with probability exp(-(1 - 2)^2 / 8 - 1 / 2)
    likely = math.exp(-0.125 - 0.5)
    half = word_of(0.5)
    below, above = word_of(likely, -(1 << 12)), word_of(likely, 1 << 12)
    for edge, kept in ((below, [1]), (above, [])):
        found = discrete.discrete_gaussian(scripted(low << 1, half, edge, 0, 0, 0, 0), 1, std)
        assert found.tolist() == kept


def test_the_high_part_is_decided_by_more_bits_next_to_a_power_of_e():
    edge = word_of(math.exp(-1.0))
    size_above, _ = discrete.settled(scripted(*[0] * 4), 0, np.array([edge + 4096, 0], np.uint64), 4.0, 2)
    size_below, _ = discrete.settled(scripted(*[0] * 4), 0, np.array([edge - 4096, 0], np.uint64), 4.0, 2)
    assert (size_above, size_below) == (0, 4)


def test_the_low_bits_of_wide_noise_are_uniform():
    """A logarithm in doubles has too few places for them."""
    drawn = NoiseSource().discrete_gaussian(100_000, 2.0**36)
    low = drawn & 1023
    counts = np.bincount(low, minlength=1024)
    chi = float(((counts - 100_000 / 1024) ** 2 / (100_000 / 1024)).sum())
    assert chi < 1023 + 6 * math.sqrt(2 * 1023)


def test_noise_far_below_one_step_is_none():
    assert not NoiseSource().discrete_gaussian(1000, 1e-300).any()
