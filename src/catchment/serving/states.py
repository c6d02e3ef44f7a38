"""How a serving is, and how a rollout of it goes."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Of a serving, in the original's words; "Deleting" is Catchment's own."""

    CREATING = "Creating"
    AVAILABLE = "Available"
    FAILED = "Failed"
    DELETING = "Deleting"


class RolloutPhase(StrEnum):
    """Of a rollout."""

    PENDING = "Pending"
    RUNNING = "Running"
    AWAITING_APPROVAL = "AwaitingApproval"
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    FAILED = "Failed"


LIVE = frozenset({RolloutPhase.PENDING, RolloutPhase.RUNNING, RolloutPhase.AWAITING_APPROVAL})
ENDED = frozenset({RolloutPhase.PROMOTED, RolloutPhase.ROLLED_BACK, RolloutPhase.FAILED})
STOPPED = "stopped"
"""Message of a rollout that somebody stopped; it was rolled back."""
