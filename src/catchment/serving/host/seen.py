"""How a replica is, and how often that is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["starting", "ready", "stopping", "failed", "gone"]


@dataclass(frozen=True)
class Pace:
    """How often a replica is looked at, and how long everything may take, in seconds.

    Attributes:
        look: between two looks while it starts.
        probe: between two questions whether it lives.
        answer: it must answer such a question within this.
        misses: so many questions in a row without an answer are a hang.
        load: it must be ready within this.
        healthy: after so long its earlier crashes are forgotten.
        leave: between the word that it stops and the signal: gateways turn to others meanwhile.
        told: how long is waited for that word to be written down.
        margin: beyond the time to drain, before it is killed.
    """

    look: float = 0.05
    probe: float = 2.0
    answer: float = 2.0
    misses: int = 4
    load: float = 600.0
    healthy: float = 60.0
    leave: float = 0.5
    told: float = 1.0
    margin: float = 5.0


@dataclass(frozen=True)
class Seen:
    """How a replica is: what is written into its row."""

    state: State
    http: str = ""
    grpc: str = ""
    pid: int | None = None
    pid_start: int | None = None
    restarts: int = 0
    message: str = ""
