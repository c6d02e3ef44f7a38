"""What one model server may do: its bounds, read from a JSON document."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catchment.findings import invalid_field

CGROUP = Path("/sys/fs/cgroup/cpu.max")
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([-._A-Za-z0-9]{0,126}[A-Za-z0-9])?$")]
Dimension = Annotated[int, Field(ge=0, le=1 << 20)]


def available_cpus() -> int:
    """How many processors this process may use: its affinity, and its control group's quota."""
    mine = len(os.sched_getaffinity(0))
    try:
        quota, period = CGROUP.read_text().split()
    except (OSError, ValueError):
        return mine
    return mine if quota == "max" else max(1, min(mine, round(int(quota) / int(period))))


class ServingConfig(BaseModel):
    """A model server's bounds; each has a row in `docs/model-server.md`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(description="The model's name in addresses.")
    version: Name = Field(default="1", description="The model's version in addresses.")
    threads: int = Field(
        default=1, ge=1, le=256, description="Threads that one inference uses inside onnxruntime."
    )
    concurrency: int = Field(
        default_factory=available_cpus,
        ge=1,
        le=256,
        description="Inferences that run at a time; by default one for each processor of this process.",
    )
    queue: int = Field(default=64, ge=0, le=4096, description="Requests that may wait; more are refused.")
    max_request_bytes: int = Field(
        default=64 << 20, ge=1024, le=1 << 30, description="The largest request, in bytes."
    )
    deadline_s: float = Field(
        default=30.0, gt=0, le=3600, description="A request is answered or given up within this time."
    )
    drain_s: float = Field(
        default=10.0, ge=0, le=600, description="After SIGTERM, requests in flight have so long to end."
    )
    inline_ms: float = Field(
        default=0.3,
        ge=0,
        le=10,
        description="Inferences that took less run where their request arrives, without a change of threads.",
    )
    smoke: bool = Field(default=True, description="Run one inference on zeros before being ready.")
    smoke_shapes: dict[str, list[Dimension]] = Field(
        default={}, description="Shapes of its inputs, where a dynamic dimension of 1 does not do."
    )


def read_config(document: object) -> ServingConfig:
    """The bounds that a JSON value states. Raises InvalidField."""
    try:
        return ServingConfig.model_validate(document)
    except ValidationError as error:
        raise invalid_field(error) from None
