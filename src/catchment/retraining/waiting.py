"""Waiting for what somebody else works on: by signals of the store, with a deadline and visible reasons."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from catchment.errors import RetrainingFailed
from catchment.store import Store

T = TypeVar("T")
Say = Callable[[str], None]
LOOK_S = 5.0


def wait_for(
    store: Store, topic: str, look: Callable[[], T | str], longest_s: float, what: str, say: Say
) -> T:
    """The first thing that `look` gives that is no text; texts are reasons to wait, and said when new.

    Raises:
        RetrainingFailed: it takes longer than it may; the message has the last reason.
    """
    deadline, said = time.monotonic() + longest_s, ""
    while True:
        ticket = store.db.signals.ticket(topic)
        found = look()
        if not isinstance(found, str):
            return found
        if found != said:
            said = found
            say(f"{what}: {found}")
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise RetrainingFailed(f"{what} took longer than {longest_s:g} s: {said}")
        store.db.signals.wait(ticket, min(left_s, LOOK_S))
