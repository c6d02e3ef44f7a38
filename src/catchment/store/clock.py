"""The store's clock, and what can be said of times while clocks jump.

All times in the store are of one clock: PostgreSQL's, whichever host asks; with SQLite there is one machine
and its clock. Such a clock may jump, forward or back, when its host is set right. Whoever judges a lease
compares the clock with a monotonic one, and after a jump lets the lease's holder write it anew first.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

from sqlalchemy import Connection

log = logging.getLogger(__name__)
JUMP_S = 1.0
"""A clock that goes so much further or less far than the monotonic one has jumped."""
AHEAD_S = 2.0
"""A time that lies further in the future than this was written before the clock went back."""


class Clock(Protocol):
    """Where a transaction has its time from."""

    def now(self, connection: Connection) -> float:
        """Seconds since the epoch."""

    @property
    def steady_s(self) -> float:
        """For how many seconds the clock has not jumped, as far as this process has seen."""


class WatchedClock:
    """A clock whose jumps are noticed by comparing it with this process's monotonic one."""

    def __init__(
        self, read: Callable[[Connection], float], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._offset: tuple[float, float] | None = None
        self._jumped_at = -math.inf

    def now(self, connection: Connection) -> float:
        """The clock's time; a jump since the last call is noted."""
        before = self._monotonic()
        now = self._read(connection)
        self._note(now - self._monotonic(), now - before)
        return now

    @property
    def steady_s(self) -> float:
        """Seconds since the last jump that was noticed; infinite when there was none."""
        return self._monotonic() - self._jumped_at

    def _note(self, least: float, most: float) -> None:
        """Compare the offset between the clocks, which lies between the two, with the one before."""
        with self._lock:
            known, self._offset = self._offset, (least, most)
            if known is None:
                return
            jump = max(least - known[1], known[0] - most)
            if jump > JUMP_S:
                self._jumped_at = self._monotonic()
                log.warning("the store's clock has jumped by %.1f s", (least + most - sum(known)) / 2)


def postgres_clock() -> WatchedClock:
    """The database server's clock: hosts whose own clocks differ agree on it."""

    def read(connection: Connection) -> float:
        # Not now(): that stands still while a transaction waits for a lock.
        found = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8").scalar()
        return float(found or 0.0)

    return WatchedClock(read)


def host_clock() -> WatchedClock:
    """This machine's clock, for a store that only this machine uses."""
    return WatchedClock(lambda _connection: time.time())


def has_passed(clock: Clock, now: float, since: float, seconds: float) -> bool:
    """Whether `seconds` have passed since a time of the store that its writer keeps renewing.

    For so long after a jump the answer is no: the writer, if it lives, has not had its time yet to write
    by the clock as it is now. Afterwards a time that lies in the future is a relic.
    """
    elapsed = now - since
    return (elapsed > seconds or elapsed < -AHEAD_S) and clock.steady_s >= seconds


def time_left(clock: Clock, now: float, deadline: float, longest_s: float) -> float:
    """Seconds until a deadline of the store that was set `longest_s` ahead; zero or less when it is over.

    Right after a jump nobody knows what is left; it gets all of its time once more rather than none.
    """
    return longest_s if clock.steady_s < longest_s else min(deadline - now, longest_s)


class Countdown:
    """What is left until a deadline in the store, once seen measured without the store's clock.

    A deadline that is moved is taken up anew.
    """

    def __init__(self, longest_s: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._longest_s = longest_s
        self._monotonic = monotonic
        self._deadline: float | None = None
        self._ends = 0.0

    def left_s(self, clock: Clock, now: float, deadline: float) -> float:
        """Seconds that are left, as `time_left` when the deadline is seen first."""
        if deadline != self._deadline:
            self._deadline = deadline
            self._ends = self._monotonic() + time_left(clock, now, deadline, self._longest_s)
        return self._ends - self._monotonic()
