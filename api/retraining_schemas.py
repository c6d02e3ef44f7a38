"""Retraining as the API document has it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from api.schemas import Shape
from catchment.jobs.launcher import RunState
from catchment.retraining.plan import RetrainPlan


class RetrainSteps(BaseModel):
    """What a run has made so far; a part that is not there has not been made yet."""

    model_config = ConfigDict(extra="forbid")

    job: Annotated[dict[str, Any] | None, Field(description="id, state, progress, reason.")] = None
    version: Annotated[str | None, Field(description="That the job registered.")] = None
    model_job: Annotated[dict[str, Any] | None, Field(description="name, phase, message.")] = None
    served: Annotated[str | None, Field(description="The version that was made of it for serving.")] = None
    rollout: Annotated[dict[str, Any] | None, Field(description="serving, number, phase, message.")] = None


class RetrainRun(Shape):
    """A run of the flow `retrain`."""

    id: str
    namespace: str
    state: RunState
    message: Annotated[str, Field(description="How it ended, in a sentence.")]
    attempts: int
    created: str | None
    started: str | None
    ended: str | None
    plan: RetrainPlan
    steps: RetrainSteps
