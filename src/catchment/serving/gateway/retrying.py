"""When a request that a server did not answer is sent to another one."""

from __future__ import annotations

import re
from typing import Literal

Failure = Literal["refused", "stale", "reset", "elsewhere"]
"""Nobody listens; a kept connection was closed before its next request was answered, which may be no fault of
the server's; the connection broke before the first byte of the answer; the server says itself that it answers
nobody now. Only a reset counts against the workload."""
MOST_TRIES = 6
MOST_BROKEN = 2
SMALL_REPLY_BYTES = 4096
_ELSEWHERE = re.compile(rb"\b(?:stopping|stopped|loading|being loaded|not ready)\b")


def says_elsewhere(status: int, body: bytes) -> bool:
    """Whether an answer means that another server should be asked: this one is stopping, or loading still.

    One that is full means something else: its client is to come back later.
    """
    return status == 503 and len(body) <= SMALL_REPLY_BYTES and _ELSEWHERE.search(body) is not None


def is_tried_again(tries: int, broken: int, *, replayable: bool) -> bool:
    """Whether there is another try after so many, `broken` of which had the request when they broke off.

    An inference changes nothing, so it may run twice; but one that ends its server should not end them all.
    """
    return replayable and tries < MOST_TRIES and broken < MOST_BROKEN
