"""Stopping a long-running process by signal, without the traps of signal handlers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable


def on_stop_signals(stop: Callable[[], None]) -> None:
    """Call `stop` once, at the first SIGINT or SIGTERM; later ones are ignored.

    `stop` runs in a thread of its own: a handler runs between two instructions of the main thread, which
    may hold the very lock that `stop` (an Event's `set`, say) needs, and would then wait for itself.
    """

    def handle(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        threading.Thread(target=stop, name="stopping").start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
