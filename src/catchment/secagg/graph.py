"""Who shares masks with whom: everybody with everybody, or a regular ring for large cohorts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


class Graph:
    """Each party's neighbours.

    With a `degree` below the complete graph's, parties stand on a ring in an order drawn from the public
    `seed`, each beside degree/2 on both sides: a Harary graph, which stays connected when any degree - 1
    parties are taken out of it (Bell et al. 2020 draw it so).

    Args:
        names: distinct.
        degree: even; None for the complete graph.
        seed: public bytes that nobody could choose alone, such as the digest of all parties' fresh keys.

    Raises:
        ValueError: names are not distinct, or the degree is odd or below 2.
    """

    def __init__(self, names: Sequence[str], degree: int | None, seed: bytes) -> None:
        if len(set(names)) != len(names):
            raise ValueError("a party is named twice")
        if degree is not None and (degree < 2 or degree % 2):
            raise ValueError(f"degree is {degree}, it must be even and at least 2")
        self._names = tuple(sorted(names))
        self._steps: tuple[int, ...] = ()
        if degree is not None and degree < len(names) - 1:
            self._steps = tuple(step for step in range(-degree // 2, degree // 2 + 1) if step)
            self._ring = sorted(names, key=lambda name: hashlib.sha256(seed + name.encode()).digest())
            self._places = {name: place for place, name in enumerate(self._ring)}

    def of(self, name: str) -> tuple[str, ...]:
        """The neighbours of a party, sorted by name."""
        if not self._steps:
            return tuple(other for other in self._names if other != name)
        place, ring = self._places[name], self._ring
        return tuple(sorted(ring[(place + step) % len(ring)] for step in self._steps))
