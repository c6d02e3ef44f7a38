"""Shamir's secret sharing of 32-byte secrets over the prime field of 2^256 + 297 (Shamir 1979)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33
"""A share is an element of the field: one byte more than a secret."""


def split(
    secret: bytes, threshold: int, points: Sequence[int], below: Callable[[int], int] = secrets.randbelow
) -> dict[int, bytes]:
    """Shares of `secret` at the given points; any `threshold` of them give it back, fewer say nothing.

    Args:
        secret: 32 bytes.
        threshold: how many shares are needed.
        points: distinct, at least 1 and small.
        below: draws uniformly below its argument; the operating system's randomness unless a test asks.

    Raises:
        ValueError: the secret has another length, or points and threshold do not fit.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret must have {SECRET_BYTES} bytes, not {len(secret)}")
    _check_points(points)
    if not 1 <= threshold <= len(points):
        raise ValueError(f"threshold is {threshold}, there are {len(points)} points")
    coefficients = [below(PRIME) for _ in range(threshold - 1)] + [int.from_bytes(secret, "big")]
    return {point: _evaluated(coefficients, point).to_bytes(SHARE_BYTES, "big") for point in points}


class Basis:
    """Lagrange's weights at 0 for one set of points, computed once for all secrets shared at these points."""

    def __init__(self, points: Sequence[int]) -> None:
        _check_points(points)
        self.points = tuple(points)
        self._weights = _lagrange(self.points)

    def combine(self, shares: Mapping[int, bytes]) -> bytes:
        """The secret of which `shares` holds the shares at this basis' points; others are not looked at.

        Shares that do not belong together give another secret without a sign of it: compare the result
        with something public.

        Raises:
            ValueError: a share is missing or is no element of the field, or the result is no secret.
        """
        total = 0
        for point, weight in zip(self.points, self._weights, strict=True):
            share = shares.get(point)
            if share is None:
                raise ValueError(f"the share at point {point} is missing")
            total += weight * _element(share)
        value = total % PRIME
        if value >> (8 * SECRET_BYTES):
            raise ValueError("the shares do not belong together")
        return value.to_bytes(SECRET_BYTES, "big")


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret from `threshold` of its shares.

    Raises:
        ValueError: there are fewer, or `Basis.combine` refuses them.
    """
    if len(shares) < threshold:
        raise ValueError(f"{len(shares)} shares, {threshold} are needed")
    return Basis(sorted(shares)[:threshold]).combine(shares)


def _evaluated(coefficients: Sequence[int], point: int) -> int:
    """Horner's rule. The point is small, so one reduction at the end is cheaper than one a step."""
    value = 0
    for coefficient in coefficients:
        value = value * point + coefficient
    return value % PRIME


def _lagrange(points: Sequence[int]) -> list[int]:
    """`prod_j x_j / (x_j - x_i)` for each i, with one inversion in all (Montgomery's trick)."""
    tops, bottoms = [], []
    for x in points:
        top, bottom = 1, 1
        for other in points:
            if other != x:
                top *= other
                bottom *= other - x
        tops.append(top % PRIME)
        bottoms.append(bottom % PRIME)
    before = [1]
    for bottom in bottoms:
        before.append(before[-1] * bottom % PRIME)
    inverse = pow(before[-1], -1, PRIME)
    weights = [0] * len(points)
    for i in reversed(range(len(points))):
        weights[i] = tops[i] * inverse * before[i] % PRIME
        inverse = inverse * bottoms[i] % PRIME
    return weights


def _element(share: bytes) -> int:
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise ValueError("a share is no element of the field")
    return value


def _check_points(points: Sequence[int]) -> None:
    # Point 0 is the secret itself.
    if not points or len(set(points)) != len(points) or not all(1 <= x < 2**31 for x in points):
        raise ValueError("points must be distinct integers of at least 1")
