"""The states of a job and of one site's work, and what each allows."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """The document's states, with STOPPING and STOPPED: a stop is no failure.

    ```text
    QUEUED ──start──> STARTING ──> RUNNING ──> FINISHED | FAILED
                         └────────────┴──stop──> STOPPING ──> STOPPED
    FINISHED, FAILED, STOPPED ──start──> STARTING        any ──delete──> DELETING ──> gone
    ```
    """

    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    DELETING = "DELETING"


BUSY = frozenset({JobState.STARTING, JobState.RUNNING, JobState.STOPPING, JobState.DELETING})
"""States that somebody is working on: the flow, or the supervisor."""


class RoundState(StrEnum):
    """One attempt at a round."""

    SELECTED = "selected"
    OPEN = "open"
    COMMITTED = "committed"
    FAILED = "failed"
    ABANDONED = "abandoned"


class WorkState(StrEnum):
    """One site's work in one attempt: offered, taken, delivered, and how it ended."""

    OFFERED = "offered"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    ADMITTED = "admitted"
    REJECTED = "rejected"
    FAILED = "failed"
    LOST = "lost"
    LATE = "late"
    CANCELLED = "cancelled"


AT_SITE = (WorkState.OFFERED, WorkState.ACCEPTED)
"""The site still has it."""
PENDING = (*AT_SITE, WorkState.DELIVERED)
"""The round still waits for it, or for its admission."""
