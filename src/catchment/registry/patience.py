"""How often and how long a registry that fails is asked again."""

from __future__ import annotations

import datetime
import email.utils
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from catchment.errors import CatchmentError


@dataclass(frozen=True)
class Patience:
    """Growing waits with jitter, with an end.

    Attributes:
        attempts: how often without any progress in between.
        low_s: the first wait; each further one is up to twice as long.
        high_s: the longest.
        deadline_s: how long after the first fault without progress nothing is tried any more.
        jitter: draws the waits.
    """

    attempts: int = 6
    low_s: float = 0.5
    high_s: float = 20.0
    deadline_s: float = 120.0
    jitter: random.Random = field(default_factory=random.Random, repr=False)
    sleep: Callable[[float], None] = time.sleep


class Trials:
    """Faults of one transfer since its last progress."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._faults = 0
        self._began = 0.0

    def progressed(self) -> None:
        """Bytes have arrived: count from the beginning."""
        self._faults = 0

    def failed(self, error: CatchmentError, retry_after_s: float | None = None) -> None:
        """Wait until the next try is due.

        Args:
            error: what is raised when there is none.
            retry_after_s: how long the server wants to be left alone.
        """
        patience = self._patience
        if not self._faults:
            self._began = time.monotonic()
        self._faults += 1
        wait_s = min(patience.high_s, patience.low_s * 2 ** (self._faults - 1))
        wait_s *= patience.jitter.uniform(0.5, 1.0)
        wait_s = max(wait_s, retry_after_s or 0.0)
        if self._faults >= patience.attempts or time.monotonic() + wait_s > self._began + patience.deadline_s:
            raise error
        patience.sleep(wait_s)


def retry_after_s(header: str) -> float | None:
    """Seconds that a Retry-After header asks for, given as a number or a date; None where it says nothing."""
    if header.strip().isdecimal():
        return float(header)
    try:
        due = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    if due.tzinfo is None:
        due = due.replace(tzinfo=datetime.UTC)
    return max(0.0, (due - datetime.datetime.now(datetime.UTC)).total_seconds())
