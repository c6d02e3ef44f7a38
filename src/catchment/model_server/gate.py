"""Who may run: bounds on inferences at a time and on requests that wait, for all protocols together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from catchment.errors import DeadlinePassed, NotServing, Overloaded

RETRY_AFTER_S = 1


class Gate:
    """Admits requests, lets so many run at a time, and knows when none is left; used by many threads.

    Args:
        concurrency: inferences at a time.
        queue: requests beyond them that may wait or arrive.
    """

    def __init__(self, concurrency: int, queue: int) -> None:
        self._limit = concurrency + queue
        self._slots = threading.BoundedSemaphore(concurrency)
        self._changed = threading.Condition()
        self._counting = threading.Lock()
        self._admitted = self._running = 0
        self._closed = False

    @property
    def admitted(self) -> int:
        """Requests that have no answer yet."""
        return self._admitted

    @property
    def running(self) -> int:
        """Inferences under way."""
        return self._running

    def admit(self) -> None:
        """Count a request in, before its body is read; every one is released again.

        Raises:
            NotServing: the gate is closed.
            Overloaded: as many are in as may be.
        """
        with self._changed:
            if self._closed:
                raise NotServing("the server is stopping")
            if self._admitted >= self._limit:
                raise Overloaded(f"{self._limit} requests run or wait already", RETRY_AFTER_S)
            self._admitted += 1

    def release(self) -> None:
        """The request has its answer."""
        with self._changed:
            self._admitted -= 1
            if not self._admitted:
                self._changed.notify_all()

    def try_enter(self) -> bool:
        """Take a slot if one is free; given back with `leave`."""
        if not self._slots.acquire(blocking=False):
            return False
        self._count(1)
        return True

    def leave(self) -> None:
        """Give the slot back."""
        self._count(-1)
        self._slots.release()

    @contextmanager
    def slot(self, deadline: float) -> Iterator[None]:
        """Wait for a slot until `deadline` (time.monotonic). Raises DeadlinePassed."""
        if not self._slots.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise DeadlinePassed("the request waited for others until its time was over")
        self._count(1)
        try:
            yield
        finally:
            self.leave()

    def _count(self, change: int) -> None:
        with self._counting:
            self._running += change

    def close(self) -> None:
        """Admit nobody any more."""
        with self._changed:
            self._closed = True

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until every request has its answer; whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._admitted, timeout_s)
