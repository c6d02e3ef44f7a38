"""What a retraining is to do: one model, which the Prefect UI shows as a form and REST takes as a body."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catchment.errors import InvalidField
from catchment.findings import invalid_field
from catchment.jobs.spec import JOB_ID, NAMESPACE
from catchment.retraining import model_job
from catchment.serving.spec import BACKENDS, LABEL, Canary

MODEL = r"^[a-z0-9][a-z0-9._-]*$"
DAY_S = 86_400.0
Wait = Annotated[float, Field(gt=0, le=60 * DAY_S)]
ModelName = Annotated[str, Field(pattern=MODEL, max_length=255)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RetrainJob(_Part):
    """The job that trains. Give `template` or `spec`.

    Attributes:
        template: id of a job of the namespace whose specification is copied, its seed aside.
        spec: a specification of its own; its id, and what it registers, are set.
        rounds: instead of the specification's `max_round_num`.
        begin_with: the newest version that the model was registered as, the one that serves, or what the
            specification says; the latter too where there is no such version.
        wait_s: how long the job may take.
    """

    template: Annotated[str, Field(pattern=JOB_ID)] | None = None
    spec: dict[str, Any] | None = None
    rounds: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    begin_with: Literal["registered", "serving", "specification"] = "registered"
    wait_s: Wait = 7 * DAY_S

    @model_validator(mode="after")
    def _one_source(self) -> RetrainJob:
        if (self.template is None) == (self.spec is None):
            raise ValueError("one of template (the id of a job) and spec (a job's specification) is required")
        return self


class RegisterAs(_Part):
    """What the result is registered as.

    Attributes:
        name: of the model.
        version: how versions are called: by the time (`20260131-040000`), or counted (`v1`, `v2` ...).
        checkpoint: the run's last one, or the one of the highest accuracy.
    """

    name: ModelName
    version: Literal["time", "count"] = "time"
    checkpoint: Literal["final", "best"] = "final"


class Servable(_Part):
    """How the registered weights become a model that can be served.

    Attributes:
        to: the format.
        graph: the ready ONNX version (`project/name:version`) whose graph takes the weights; by default the
            one that serves.
        keep: initializers of that graph that stay as they are, such as constants of a normalisation.
        options: of a further conversion, as a ModelJob has them, such as `{"operation": "slim"}`.
        wait_s: how long the ModelJob may take.
    """

    to: Annotated[str, Field(min_length=1, max_length=40)] = "ONNX"
    graph: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    keep: Annotated[tuple[str, ...], Field(max_length=1000)] = ()
    options: dict[str, str | int | bool] = {}
    wait_s: Wait = 3600.0


class RetrainGate(_Part):
    """What the new version must be to be rolled out: better than the one that serves, by a margin.

    Attributes:
        metric: of the federated evaluation.
        margin: the new one must be better by so much at least, and better in any case.
        higher_is_better: as accuracy is; of a loss, false.
        rounds: the mean over so many evaluated rounds, the last one being the one that was registered.
        baseline: what the version that serves is taken to have where nothing is known of it.
    """

    metric: Annotated[str, Field(min_length=1, max_length=200)] = "accuracy"
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    higher_is_better: bool = True
    rounds: Annotated[int, Field(ge=1, le=1000)] = 1
    baseline: Annotated[float, Field(allow_inf_nan=False)] | None = None


class RolloutTarget(_Part):
    """Where the new version goes.

    Attributes:
        name: of the serving; it is made where it is not there.
        predictor: the one that gets the version, where the serving has several.
        replicas: of a serving that is made.
        backend: of a serving that is made; by default the server's choice.
        canary: how traffic comes to the version; by default as the serving has it.
        wait_s: how long the rollout may take, a person's approval included.
    """

    name: Annotated[str, Field(pattern=LABEL)]
    predictor: Annotated[str, Field(pattern=LABEL)] | None = None
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    backend: Literal["local", "kubernetes", "kserve", "seldon"] | None = None
    canary: Canary | None = None
    wait_s: Wait = 2 * DAY_S


class RetrainPlan(_Part):
    """Federate, register, convert, compare with the version that serves, roll out."""

    namespace: Annotated[str, Field(pattern=NAMESPACE)] = "default"
    job: RetrainJob
    register_as: RegisterAs
    convert: Servable | None = Servable()
    gate: RetrainGate = RetrainGate()
    serving: RolloutTarget | None = None

    @model_validator(mode="after")
    def _served_means_converted(self) -> RetrainPlan:
        if self.serving is not None and self.convert is None:
            raise ValueError("convert is required with serving: a job's result is weights without a graph")
        return self


assert set(BACKENDS) == {"local", "kubernetes", "kserve", "seldon"}  # noqa: S101 - two spellings of one list


def parse(body: object, namespace: str) -> RetrainPlan:
    """The validated plan of a body.

    Args:
        body: the tree of JSON.
        namespace: of the path; another one in the body is refused.

    Raises:
        InvalidField: the first field that is wrong, and what would be right.
    """
    if not isinstance(body, dict):
        raise InvalidField("body", "an object with job and register_as is required")
    if body.get("namespace", namespace) != namespace:
        raise InvalidField("namespace", f"is {body['namespace']!r}, the path names {namespace!r}")
    try:
        plan = RetrainPlan.model_validate({**body, "namespace": namespace})
    except ValidationError as error:
        raise invalid_field(error) from None
    check(plan)
    return plan


def check(plan: RetrainPlan) -> None:
    """Refuse what no field alone shows to be wrong, the ModelJob that is made of it included.

    Raises:
        InvalidField: the field, and what would be right.
    """
    if plan.convert is not None:
        model_job.check(plan.convert, plan.namespace, plan.register_as.name)
