"""What a run of maintenance is to do: one model, which the Prefect UI shows as a form."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PREFIXES = 256
"""Blobs are looked at by the first byte of their digests."""


class MaintainPlan(BaseModel):
    """What is removed and what is hashed again.

    Attributes:
        grace_s: a blob that nothing refers to stays for so long after it was written.
        dry_run: remove nothing, tell what would be.
        parts: all blobs are hashed again within so many days, a part of them each day.
        most_bytes: so much of the day's part is read at most.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    grace_s: Annotated[float, Field(ge=3600, le=365 * 86_400)] = 86_400.0
    dry_run: bool = False
    parts: Annotated[int, Field(ge=1, le=PREFIXES)] = 30
    most_bytes: Annotated[int, Field(ge=0)] = 100_000_000_000
