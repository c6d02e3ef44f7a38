"""How long to wait before the next try."""

from __future__ import annotations

import random

_jitter = random.Random()  # noqa: S311 - not the global one, whose state belongs to others


class Backoff:
    """Growing waits with jitter, so that sites that lost a server together do not come back together."""

    def __init__(self, low_s: float, high_s: float) -> None:
        self._low_s = low_s
        self._high_s = high_s
        self._next_s = low_s

    def next_s(self) -> float:
        """Seconds to wait now; the next wait is up to twice as long."""
        wait_s = self._next_s
        self._next_s = min(self._high_s, 2 * wait_s)
        return wait_s * _jitter.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin anew after a success."""
        self._next_s = self._low_s
