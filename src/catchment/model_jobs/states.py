"""The phases of a ModelJob."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """The document's words. A job that was stopped has failed, with that message."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    DELETING = "Deleting"


BUSY = frozenset({Phase.PENDING, Phase.RUNNING, Phase.DELETING})
ENDED = frozenset({Phase.SUCCEEDED, Phase.FAILED})
PULL, EXTRACT, CONVERT, VERIFY, PUSH = "pull", "extract", "convert", "verify", "push"
"""The steps, in order; an extraction has no conversion to verify."""
STOPPED = "stopped"
"""Message of a job that somebody stopped."""
