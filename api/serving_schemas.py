"""Servings and rollouts as the API document has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas import ListMeta, ObjectMeta, Shape
from catchment.serving.states import RolloutPhase, State


class Rollout(BaseModel):
    """How a rollout goes, or went; `steps` holds what each has found."""

    model_config = ConfigDict(extra="allow")

    number: int
    kind: Literal["rollout", "rollback"]
    phase: RolloutPhase
    message: str
    steps: dict[str, Any] = {}


class ServingStatus(BaseModel):
    """How a serving is, as Seldon writes it and beyond."""

    model_config = ConfigDict(extra="allow")

    state: State
    description: str
    replicas: int
    address: dict[str, str]
    traffic: Annotated[dict[str, int], Field(description="Percent by workload.")]
    rollout: Annotated[Rollout | None, Field(description="The newest.")] = None


class Serving(Shape):
    """A SeldonDeployment; in requests the short form too: name, model, replicas, resources, canary."""

    apiVersion: str = "machinelearning.seldon.io/v1"  # noqa: N815
    kind: Literal["SeldonDeployment"] = "SeldonDeployment"
    metadata: ObjectMeta
    spec: dict[str, Any]
    status: Annotated[ServingStatus | None, Field(json_schema_extra={"readOnly": True})] = None


class ServingList(Shape):
    """A page of servings."""

    metadata: ListMeta
    items: list[Serving]


class RolloutList(Shape):
    """A page of rollouts."""

    metadata: ListMeta
    items: list[Rollout]
