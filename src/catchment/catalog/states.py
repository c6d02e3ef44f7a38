"""The states of a model version."""

from __future__ import annotations

from enum import StrEnum


class ModelState(StrEnum):
    """The document's words. Only READY versions have all their bytes, checked against their digests."""

    UNREADY = "unready"
    READY = "ready"
    ERROR = "error"
    DELETING = "deleting"
