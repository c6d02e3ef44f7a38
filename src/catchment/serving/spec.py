"""What users send as a serving: a SeldonDeployment as the original takes it, or the short form."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catchment.errors import FormatMismatch, InvalidField
from catchment.findings import invalid_field
from catchment.model_jobs.spec import Metadata, Text
from catchment.models import formats
from catchment.serving import around, seldon
from catchment.serving.around import ANNOTATION, NAME

LABEL = rf"^{NAME}$"
BACKENDS = ("local", "kubernetes", "kserve", "seldon")
MODEL_ID = re.compile(r"^[0-9a-f]{32}$")
Percent = Annotated[int, Field(ge=1, le=100)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class _Object(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Metric(_Object):
    """A metric that both versions must have; the new one may not be worse by more than `margin`."""

    name: Text
    margin: Annotated[float, Field(ge=0)] = 0.0
    higher_is_better: bool = True


class Canary(_Object):
    """How traffic comes to a new version, and what sends it back.

    Attributes:
        steps: percent of the traffic in each step, growing; 100 ends them and is added where it is missing.
        step_s: how long each step is watched.
        min_requests: a step is watched until the new version has had so many, for `max_step_s` at most.
        probes: requests made of the signature that both versions are asked in each step.
        max_error_rate_increase: more errors than the stable version's share of errors and this: back.
        max_latency_ratio, latency_slack_ms: slower at the median than so many times the stable version and
            so much: back.
        max_disagreement: a larger share of mirrored requests answered otherwise: back. 1 looks at none.
        min_compared: with fewer mirrored requests, disagreement says nothing.
        metric: looked at before anything is started.
        approval: a person must agree after the first step.
        approval_timeout_s: within this; then: back.
    """

    steps: Annotated[tuple[Percent, ...], Field(min_length=1, max_length=20)] = (5, 25, 50, 100)
    step_s: Seconds = 10.0
    min_requests: Annotated[int, Field(ge=0)] = 0
    max_step_s: Seconds = 3600.0
    probes: Annotated[int, Field(ge=0, le=1000)] = 20
    max_error_rate_increase: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_latency_ratio: Annotated[float, Field(ge=1)] = 2.0
    latency_slack_ms: Annotated[float, Field(ge=0)] = 20.0
    max_disagreement: Annotated[float, Field(ge=0, le=1)] = 0.5
    min_compared: Annotated[int, Field(ge=1)] = 20
    metric: Metric | None = None
    approval: bool = False
    approval_timeout_s: Seconds = 86_400.0

    @model_validator(mode="before")
    @classmethod
    def _ends_at_all(cls, data: Any) -> Any:
        steps = data.get("steps") if isinstance(data, dict) else None
        if isinstance(steps, list | tuple) and steps and all(isinstance(each, int) for each in steps):
            if list(steps) != sorted(set(steps)):
                raise ValueError("steps must grow, such as [5, 25, 50, 100]")
            if steps[-1] != 100:
                return {**data, "steps": [*steps, 100]}
        return data


class Resources(_Object):
    """What a replica asks for and may use, in Kubernetes' units."""

    requests: dict[str, str | int | float] = {}
    limits: dict[str, str | int | float] = {}


class Predictor(_Object):
    """A model of a serving, with its share of the serving's traffic in percent."""

    name: Annotated[str, Field(pattern=LABEL)]
    graph: Annotated[str, Field(pattern=LABEL)]
    model: Text
    format: Text | None = None
    runtime: str = ""
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    traffic: Annotated[int, Field(ge=0, le=100)] = 100
    resources: Resources = Resources()
    env: dict[str, str] = {}
    pod: dict[str, Any] = {}


class ServingSpec(_Object):
    """What a serving is to be, however it was said."""

    predictors: Annotated[tuple[Predictor, ...], Field(min_length=1, max_length=8)]
    canary: Canary = Canary()
    server: dict[str, Any] = {}


class _Short(_Object):
    """Catchment's short form."""

    model: Text
    format: Text | None = None
    runtime: str = ""
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    resources: Resources = Resources()
    env: dict[str, str] = {}
    canary: Canary = Canary()
    server: dict[str, Any] = {}
    backend: str | None = None


@dataclass(frozen=True)
class NewServing:
    """A serving that can be created.

    Attributes:
        body: the SeldonDeployment that GET answers with, status aside.
        generation: of the object that the sender changed, where it said so.
        ignored: fields that are kept and not used.
    """

    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    body: dict[str, Any]
    spec: ServingSpec
    backend: str
    generation: int | None
    ignored: tuple[str, ...]


def parse(body: object, namespace: str, backend: str, name: str | None = None) -> NewServing:
    """The validated serving of a body.

    Args:
        body: the tree of JSON or YAML.
        namespace: of the path; another one in the metadata is refused.
        backend: where it runs unless the body says so.
        name: of the path, for an update.

    Raises:
        InvalidField: the first field that is wrong, and what would be right.
    """
    if not isinstance(body, dict):
        raise InvalidField("body", "an object is required: a SeldonDeployment, or name and model")
    spec, meta = around.spec_in(body), around.metadata_in(body, namespace, name)
    if not isinstance(spec, dict):
        raise InvalidField("spec", "must be an object with predictors, or with model")
    is_seldon = "predictors" in spec
    ignored: tuple[str, ...] = ()
    try:
        if is_seldon:
            tree, ignored = seldon.understood(spec)
            annotated = {key: around.annotation(meta, key) for key in ("canary", "server")}
            made = _validated(
                {**tree, **{key: value for key, value in annotated.items() if value is not None}}
            )
            backend = meta.annotations.get(ANNOTATION + "backend", backend)
            full = {**spec}
        else:
            short = _Short.model_validate(spec)
            _refuse_own(meta)
            made, backend = _long(short, meta), short.backend or backend
            full = seldon.composed(made)
    except ValidationError as error:
        raise invalid_field(error, "spec" if "spec" in body else "") from None
    if backend not in BACKENDS:
        raise InvalidField("backend", f"{backend!r} must be one of {', '.join(BACKENDS)}")
    _check(made, "" if is_seldon else "spec.model" if "spec" in body else "model")
    annotations = dict(meta.annotations)
    if not is_seldon:
        annotations |= _annotations(short)
    return NewServing(
        str(meta.name),
        dict(meta.labels),
        annotations,
        {"apiVersion": seldon.API_VERSION, "kind": seldon.KIND, "spec": full},
        made,
        backend,
        around.generation_in(body),
        ignored,
    )


def _validated(tree: dict[str, Any]) -> ServingSpec:
    """The spec of a SeldonDeployment. Raises InvalidField, with the field's place in what was sent."""
    try:
        return ServingSpec.model_validate(tree)
    except ValidationError as error:
        found = invalid_field(error, "spec")
        field = re.sub(r"^spec\.(?=(canary|server)\b)", f"metadata.annotations.{ANNOTATION}", found.field)
        field = re.sub(r"^(spec\.predictors\.\d+\.graph)$", r"\1.name", field)
        container = "componentSpecs.0.spec.containers.0"
        field = re.sub(r"^(spec\.predictors\.\d+)\.(?=(resources|env)\b)", rf"\1.{container}.", field)
        raise InvalidField(field, found.problem) from None


def _long(short: _Short, meta: Metadata) -> ServingSpec:
    name = str(meta.name)
    kept = short.model_dump(exclude={"canary", "server", "backend"})
    return ServingSpec(
        predictors=(Predictor(name="default", graph=name, **kept),), canary=short.canary, server=short.server
    )


def _refuse_own(meta: Metadata) -> None:
    """In the short form what is Catchment's own has fields; an annotation beside them would not be used."""
    for key in ("canary", "server", "backend"):
        if ANNOTATION + key in meta.annotations:
            raise InvalidField(
                f"metadata.annotations.{ANNOTATION}{key}", f"is for SeldonDeployments; say {key} beside model"
            )


def _annotations(short: _Short) -> dict[str, str]:
    """The short form's own fields as annotations, so that what GET answers can be sent again."""
    found: dict[str, str] = {}
    if canary := short.canary.model_dump(exclude_defaults=True, mode="json"):
        found[ANNOTATION + "canary"] = json.dumps(canary)
    if short.server:
        found[ANNOTATION + "server"] = json.dumps(short.server)
    if short.backend:
        found[ANNOTATION + "backend"] = short.backend
    return found


def _check(spec: ServingSpec, model_field: str) -> None:
    """What goes beyond a field's own type; `model_field` is where the short form has the model."""
    names = [each.name for each in spec.predictors]
    if len(set(names)) != len(names):
        raise InvalidField("spec.predictors", f"two are called {max(names, key=names.count)!r}")
    total = sum(each.traffic for each in spec.predictors)
    if total != 100:
        raise InvalidField("spec.predictors.traffic", f"adds up to {total}, must be 100")
    for index, each in enumerate(spec.predictors):
        try:
            formats.named(each.format or "Others")
        except FormatMismatch as error:
            field = (
                model_field.replace("model", "format") or f"spec.predictors.{index}.graph.parameters.format"
            )
            raise InvalidField(field, str(error)) from None
        if MODEL_ID.fullmatch(each.model) is None:
            seldon.version_of(each.model, model_field or f"spec.predictors.{index}.graph.modelUri")
