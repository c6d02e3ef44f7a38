"""Shamir's sharing: any t shares give the secret back, fewer or foreign ones do not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.secagg.shamir import PRIME, SECRET_BYTES, SHARE_BYTES, Basis, combine, split

secret_bytes = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)
SECRET = bytes(range(32))


@given(secret_bytes, st.integers(1, 30), st.integers(0, 20), st.randoms(use_true_random=False))
def test_any_threshold_of_the_shares_gives_the_secret_back(
    secret: bytes, threshold: int, more: int, chance: random.Random
) -> None:
    points = chance.sample(range(1, 1000), threshold + more)
    shares = split(secret, threshold, points)
    some = dict(chance.sample(sorted(shares.items()), threshold))
    assert combine(some, threshold) == secret
    assert Basis(sorted(some)).combine(shares) == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
def test_extreme_secrets_come_back(secret: bytes) -> None:
    assert combine(split(secret, 3, [1, 2, 3]), 3) == secret


@given(secret_bytes, secret_bytes)
def test_fewer_shares_than_needed_fit_every_secret(secret: bytes, other: bytes) -> None:
    """Two of three shares, and any secret at all: there is a polynomial through all of them."""
    shares = split(secret, 3, [1, 2, 3])
    values = {0: int.from_bytes(other, "big"), **{x: int.from_bytes(shares[x], "big") for x in (1, 2)}}
    third = 0
    for i, value in values.items():
        term = value
        for j in values:
            if j != i:
                term = term * (3 - j) * pow(i - j, -1, PRIME) % PRIME
        third = (third + term) % PRIME
    assert combine({1: shares[1], 2: shares[2], 3: third.to_bytes(SHARE_BYTES, "big")}, 3) == other


def test_too_few_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="2 shares, 3 are needed"):
        combine({x: share for x, share in split(SECRET, 3, [1, 2, 3]).items() if x < 3}, 3)


def test_a_wrong_threshold_gives_another_secret_which_must_be_checked_against_something_public() -> None:
    shares = split(SECRET, 5, range(1, 8))
    below = [int.from_bytes(shares[x], "big") for x in (1, 2, 3)]
    assert below
    try:
        assert combine(shares, 3) != SECRET
    except ValueError as error:
        assert "do not belong together" in str(error)  # noqa: PT017 - one in 2^247 has too large a result


def test_an_altered_share_gives_another_secret() -> None:
    shares = split(SECRET, 3, [1, 2, 3])
    altered = {**shares, 2: (int.from_bytes(shares[2], "big") ^ 1).to_bytes(SHARE_BYTES, "big")}
    try:
        assert combine(altered, 3) != SECRET
    except ValueError as error:
        assert "do not belong together" in str(error)  # noqa: PT017


def test_shares_outside_of_the_field_are_refused() -> None:
    for bad in (PRIME.to_bytes(SHARE_BYTES, "big"), b"\xff" * SHARE_BYTES, b"\x00" * 32, b""):
        with pytest.raises(ValueError, match="no element of the field"):
            combine({1: bad, 2: bytes(SHARE_BYTES)}, 2)


def test_a_result_that_is_no_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        combine({1: (PRIME - 1).to_bytes(SHARE_BYTES, "big")}, 1)


@pytest.mark.parametrize("points", [[], [0, 1], [1, 1], [-1, 2]])
def test_point_zero_and_double_points_are_refused(points: list[int]) -> None:
    with pytest.raises(ValueError, match="points must be"):
        split(SECRET, 1, points)
    with pytest.raises(ValueError, match="points must be"):
        Basis(points)


@pytest.mark.parametrize("threshold", [0, 4])
def test_a_threshold_that_cannot_be_reached_is_refused(threshold: int) -> None:
    with pytest.raises(ValueError, match="threshold"):
        split(SECRET, threshold, [1, 2, 3])


def test_a_secret_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        split(b"short", 1, [1])


def test_a_missing_share_is_named() -> None:
    with pytest.raises(ValueError, match="point 2"):
        Basis([1, 2]).combine({1: bytes(SHARE_BYTES)})
