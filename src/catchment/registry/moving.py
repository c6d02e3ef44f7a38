"""Several transfers at a time: one count of bytes for all of them, and one fault that ends all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait

THREADS = 3

MoveProgress = Callable[[int, int], None]
"""Told the bytes done and all bytes; called by one thread at a time."""


class Meter:
    """Bytes done of all blobs together; also how other threads learn that one has failed.

    Args:
        total: all bytes.
        progress: told how far it is.
    """

    def __init__(self, total: int, progress: MoveProgress | None) -> None:
        self._total = total
        self._progress = progress
        self._done: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def done(self, digest: str, count: int) -> None:
        """So many bytes of a blob are there."""
        self.check()
        if self._progress:
            with self._lock:
                self._done[digest] = count
                self._progress(sum(self._done.values()), self._total)

    def check(self) -> None:
        """Raises CancelledError when another transfer has failed."""
        if self._stopped.is_set():
            raise CancelledError("another part of the transfer has failed")

    def stop(self) -> None:
        """Let all transfers end."""
        self._stopped.set()


def in_parallel(work: Sequence[Callable[[], None]], threads: int, meter: Meter) -> None:
    """Do all of it, in this order and so many at a time; the first fault ends all, and is raised."""
    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="move") as pool:
        try:
            running = [pool.submit(each) for each in work]
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
        except BaseException:
            meter.stop()
            pool.shutdown(cancel_futures=True)
            raise
        if faults := [fault for each in done if (fault := each.exception())]:
            meter.stop()
            pool.shutdown(cancel_futures=True)
            raise faults[0]
