"""When a model server that has ended is started again, and when that is called failed."""

from __future__ import annotations

import signal
from dataclasses import dataclass

PORT_TAKEN, UNUSABLE = 2, 3
"""Exit codes of a model server (docs/model-server.md)."""
PORT_TRIES = 5
"""A port that was free may be taken a moment later; so often others are tried at once."""
FAILED_AFTER = 5
"""So many ends in a row without a healthy time are a failure, and no bad luck."""
FIRST_S, LONGEST_S = 0.5, 30.0
UNUSABLE_FIRST_S, UNUSABLE_LONGEST_S = 5.0, 300.0
"""A model that cannot be served will rarely become one that can: only memory or a disk may have lacked."""


@dataclass(frozen=True)
class Verdict:
    """What is to be done after an end.

    Attributes:
        pause_s: until the next start.
        failed: whether it is told as failed meanwhile.
        message: why, for a person.
    """

    pause_s: float
    failed: bool
    message: str


class Restarts:
    """Counts ends in a row; a healthy time begins the count anew."""

    def __init__(self) -> None:
        self._crashes = self._unusable = self._ports_taken = 0

    def healthy(self) -> None:
        """It has run well for long enough."""
        self._crashes = self._unusable = self._ports_taken = 0

    def after(self, exit_code: int | None, last_error: str, why: str = "") -> Verdict:
        """What to do after an end.

        Args:
            exit_code: minus a signal's number; None: unknown, since it was no child of ours.
            last_error: of its log.
            why: the host's own reason, when it has ended the process.
        """
        if not why and exit_code == UNUSABLE:
            pause_s = _growing(UNUSABLE_FIRST_S, self._unusable, UNUSABLE_LONGEST_S)
            self._unusable += 1
            return Verdict(pause_s, True, last_error or "the model cannot be served")
        if not why and exit_code == PORT_TAKEN and self._ports_taken < PORT_TRIES:
            self._ports_taken += 1
            return Verdict(0.0, False, last_error)
        return self._crashed(why or _how(exit_code, last_error))

    def could_not_start(self, problem: str, *, for_good: bool) -> Verdict:
        """What to do when there was nothing to start: its files or the machine's resources lack."""
        verdict = self._crashed(problem)
        return Verdict(max(verdict.pause_s, FIRST_S), verdict.failed or for_good, problem)

    def _crashed(self, message: str) -> Verdict:
        # At once after the first: most often something passing has hit it.
        pause_s = 0.0 if self._crashes == 0 else _growing(FIRST_S, self._crashes - 1, LONGEST_S)
        self._crashes += 1
        return Verdict(pause_s, self._crashes >= FAILED_AFTER, message)


def _growing(first_s: float, turn: int, longest_s: float) -> float:
    """Twice as long each turn; whoever has counted for days still gets a number."""
    return min(first_s * 2.0 ** min(turn, 20), longest_s)


def _how(exit_code: int | None, last_error: str) -> str:
    said = f": {last_error}" if last_error else ""
    if exit_code is None:
        return f"the model server ended{said}"
    if exit_code < 0:
        return f"the model server was killed by signal {-exit_code} ({signal.strsignal(-exit_code)})"
    return f"the model server ended with exit code {exit_code}{said}"
