"""What the server does wrong on demand."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal

Act = Literal["answer", "cut", "slow", "expire"]


@dataclass
class Fault:
    """Something that happens to requests.

    Attributes:
        act: "answer" with a status, "cut" the connection unanswered (a write is done first where `after`),
            be "slow".
        verb, resource: "" for any; verbs are get, list, watch, create, update, patch, delete; logs are
            got from `pods/log`.
        times: how often still.
    """

    act: Act
    code: int = 500
    message: str = "the server is out of order"
    verb: str = ""
    resource: str = ""
    times: int = 1
    seconds: float = 0.0
    after: bool = False
    retry_after_s: int | None = None


@dataclass
class Faults:
    """Those that are still to happen, and what was asked so far."""

    waiting: list[Fault] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, verb: str, resource: str) -> Fault | None:
        """The fault of a request, counted down."""
        with self.lock:
            for fault in self.waiting:
                if fault.times > 0 and fault.verb in ("", verb) and fault.resource in ("", resource):
                    fault.times -= 1
                    return fault
        return None
