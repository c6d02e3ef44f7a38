"""The job specification: every object of the document's part "Job Management", validated.

Types are strict (a float where an integer belongs is refused, `true` is no number), unknown keys are
refused by name, and defaults are filled in.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from catchment.errors import InvalidField
from catchment.findings import invalid_field
from catchment.jobs import privacy, secure
from catchment.strategies import plan

JOB_ID = r"^[a-z0-9]([-a-z0-9]{0,98}[a-z0-9])?$"
NAMESPACE = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
PLAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$"
SERVER_FIELDS = frozenset(
    {
        "namespace",
        "create_time",
        "start_time",
        "finish_time",
        "status",
        "checkpoints",
        "run",
        "flow_run_id",
        "privacy",
    }
)
"""Fields that the server sets. They are accepted in a body, so that what GET returned can be sent back."""

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Text = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
Parameter = StrictBool | StrictInt | StrictFloat | StrictStr | None


def _runtime(value: object) -> object:
    """The original's spelling in any case, and its name for what is now Keras."""
    lowered = value.lower() if isinstance(value, str) else value
    return "keras" if lowered == "tensorflow" else lowered


class Spec(BaseModel):
    """Base of the document's objects."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, populate_by_name=True
    )


class HyperParameters(Spec):
    """The document's HyperParameters."""

    max_round_num: Count = 10
    client_num: Count = 1
    threshold_client_num: Count = 1
    evaluate_interval: Count = 2
    save_interval: Count = 5
    round_timeout: Annotated[int, Field(ge=1, le=30 * 86400, description="seconds")] = 3600
    learning_rate: Annotated[float, Field(gt=0)] = 1.0

    @model_validator(mode="after")
    def _threshold_is_reachable(self) -> HyperParameters:
        if self.threshold_client_num > self.client_num:
            raise ValueError(
                f"threshold_client_num is {self.threshold_client_num}, "
                f"it must be at most client_num, {self.client_num}"
            )
        return self


class ScriptsConfig(Spec):
    """The document's ScriptsConfig."""

    path: Text
    config_file: Text


class Resource(Spec):
    """The document's Resource: what each worker needs at the site."""

    worker_num: Annotated[int, Field(ge=1, le=1024)] = 1
    cpu: Annotated[float, Field(gt=0, le=4096)] = 1.0
    gpu: Annotated[int, Field(ge=0, le=1024)] = 0
    memory: Annotated[int, Field(ge=1, le=2**31 - 1, description="MB")] = 1000


EmptyText = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]


class Extenders(Spec):
    """The document's Extenders; `entry` is the original's name of the file in the folder script_path."""

    script_path: EmptyText | None = None
    entry: EmptyText | None = None
    broadcast: EmptyText | None = None
    aggregate: EmptyText | None = None
    finish: EmptyText | None = None

    @property
    def functions(self) -> dict[str, str]:
        """Names of the functions to call, by what they do; none without a script, as the document says."""
        if not self.script_path:
            return {}
        named = {"broadcast": self.broadcast, "aggregate": self.aggregate, "finish": self.finish}
        return {step: name for step, name in named.items() if name}

    @model_validator(mode="after")
    def _functions_are_names(self) -> Extenders:
        for step, name in self.functions.items():
            if not name.isidentifier():
                raise ValueError(f"{step} is {name!r}, which is no name of a function")
        return self


class AdaptiveClipping(Spec):
    """Catchment's own: a clipping norm that follows a quantile of the updates' norms."""

    quantile: Annotated[float, Field(gt=0, lt=1, description="Share of updates that stay unclipped.")] = 0.5
    rate: Annotated[float, Field(gt=0, le=10)] = 0.2
    count_noise: (
        Annotated[float, Field(gt=0, description="Std of the noise on the unclipped count.")] | None
    ) = None


class SecureAlgorithm(Spec):
    """The document's SecureAlgorithm, with Catchment's own fields.

    DP: clip_norm, delta, placement, epsilon_budget, adaptive_clipping, metrics.
    SSA: clip_value, sample_cap, neighbours. With noise_multiplier the sites add discrete noise before they
    mask, and clip_norm, delta, epsilon_budget and metrics mean what they mean under DP.
    """

    type: Annotated[Literal["DP", "SSA"], BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v)]
    noise_multiplier: Annotated[float, Field(ge=0)] | None = None
    adding_same_noise: bool | None = None
    threshold: Annotated[int, Field(ge=2)] | None = None
    mode: (
        Annotated[
            Literal["onemask", "doublemask"],
            BeforeValidator(lambda v: v.lower() if isinstance(v, str) else v),
        ]
        | None
    ) = None
    use_same_mask: bool | None = None
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    placement: Literal["central", "site"] | None = None
    epsilon_budget: Annotated[float, Field(gt=0)] | None = None
    adaptive_clipping: AdaptiveClipping | None = None
    metrics: Literal["mean", "none"] | None = None
    clip_value: Annotated[float, Field(gt=1e-30, le=1e30)] | None = None
    sample_cap: Count | None = None
    neighbours: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _fields_belong_to_type(self) -> SecureAlgorithm:
        ssa = {"threshold", "mode", "use_same_mask", "clip_value", "sample_cap", "neighbours"}
        central = {"adding_same_noise", "placement", "adaptive_clipping"}
        noise = {"clip_norm", "delta", "epsilon_budget", "metrics"}
        self._refuse(ssa if self.type == "DP" else central, f"cannot be used with type {self.type}")
        if self.type == "SSA" and self.noise_multiplier is None:
            self._refuse(noise, "cannot be used with type SSA without noise_multiplier")
        if self.type == "SSA" and self.noise_multiplier is not None:
            self._refuse(
                {"clip_value", "sample_cap"}, "cannot be used with noise_multiplier: clip_norm bounds updates"
            )
            if self.clip_norm is None:
                raise ValueError("clip_norm is required where noise_multiplier is used with type SSA")
        if self.type == "DP" and self.noise_multiplier is None:
            raise ValueError("noise_multiplier is required with type DP")
        return self

    def _refuse(self, names: set[str], why: str) -> None:
        if given := sorted(name for name in names if getattr(self, name) is not None):
            raise ValueError(f"{', '.join(given)} {why}")

    @property
    def private(self) -> bool:
        """Whether updates are noised."""
        return self.noise_multiplier is not None

    @property
    def masked(self) -> bool:
        """Whether the coordinator sees sums of updates only."""
        return self.type == "SSA"


class Optimizer(Spec):
    """The document's Optimizer."""

    class Params(Spec):
        """Parameters of the two optimizers."""

        mu: Annotated[float, Field(ge=0)] | None = None
        learning_rate: Annotated[float, Field(gt=0)] | None = None
        batch_size: Count | None = None
        sample_num: Count | None = None

    name: Literal["fedprox", "scaffold"]
    params: Params = Params()


class Loss(Spec):
    """The document's Loss; what is code (train_model, origin_loss_func) is given in the training script."""

    class Params(Spec):
        """Parameters of FedDC that can be written in JSON."""

        alpha: Annotated[float, Field(gt=0)] | None = None
        sample_num: Count | None = None
        batch_size: Count | None = None
        lr: Annotated[float, Field(gt=0)] | None = None
        epoch: Count | None = None

    name: Literal["feddc"]
    params: Params = Params()


class Strategy(Spec):
    """Catchment's own: the aggregation rule by name."""

    name: Annotated[str, Field(pattern=PLAIN_NAME)]
    params: dict[str, Any] = {}


class Compression(Spec):
    """Catchment's own: how client updates are compressed on their way."""

    type: Annotated[str, Field(pattern=PLAIN_NAME)]
    params: dict[str, Any] = {}


class Register(Spec):
    """Catchment's own: the model version that the job's result becomes.

    `checkpoint`: the run's last one, or the one of the highest accuracy.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=255)]
    version: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$")] | None = None
    checkpoint: Literal["final", "best"] = "final"
    description: Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00]*$")] = ""


class Job(Spec):
    """The document's Job, as a user sends it."""

    id: Annotated[str, Field(pattern=JOB_ID, description="Unique in the namespace.")]
    description: Annotated[str, Field(max_length=10_000)] | None = None
    model_path: Text | None = None
    model_id: Text | None = None
    checkpoint_id: Text | None = None
    runtime: Annotated[Literal["pytorch", "keras"], BeforeValidator(_runtime)]
    clients: Annotated[str, Field(max_length=1_000_000)] | None = None
    resource: Resource = Resource()
    port: (
        Annotated[
            int,
            Field(
                ge=1024,
                le=65535,
                description="Kept and shown; reports go through the exchange, so nothing listens there.",
            ),
        ]
        | None
    ) = None
    hyper_parameters: HyperParameters = HyperParameters()
    task_entry: Annotated[str, Field(pattern=PLAIN_NAME)] | None = None
    scripts: ScriptsConfig | None = None
    ssl: Text | None = None
    parameters: dict[Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")], Parameter] = {}
    extenders: Annotated[Extenders | None, Field(validation_alias=AliasChoices("extenders", "extender"))] = (
        None
    )
    secure_algorithm: SecureAlgorithm | None = None
    datasets: Annotated[str, Field(max_length=100_000)] | None = None
    output: Text
    random_client: bool = False
    untrained_first: bool = False
    redundancy: Annotated[float, Field(ge=1.0, le=2.0)] = 1.0
    optimizer: Optimizer | None = None
    loss: Loss | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    strategy: Strategy | None = None
    compression: Compression | None = None
    register_: Annotated[
        Register | None,
        Field(validation_alias=AliasChoices("register", "register_"), serialization_alias="register"),
    ] = None

    @field_validator("parameters")
    @classmethod
    def _no_nul(cls, parameters: dict[str, Parameter]) -> dict[str, Parameter]:
        for key, value in parameters.items():
            if isinstance(value, str) and "\x00" in value:
                raise ValueError(
                    f"the value of {key} contains a NUL character, which no command line can carry"
                )
        return parameters

    @property
    def client_labels(self) -> list[str]:
        """`clients` as a list of distinct labels, in the order given."""
        return _split(self.clients)

    @property
    def dataset_names(self) -> list[str]:
        """`datasets` as a list of distinct names, in the order given."""
        return _split(self.datasets)

    @property
    def extender_functions(self) -> dict[str, str]:
        """The extenders' functions that are to be called: broadcast, aggregate, finish -> name."""
        return self.extenders.functions if self.extenders else {}

    @property
    def most_sites(self) -> int:
        """How many sites a round selects at most: client_num with the job's redundancy."""
        # The product of a decimal factor may lie a hair above the integer that was meant.
        return math.ceil(round(self.redundancy * self.hyper_parameters.client_num, 6))

    @property
    def model_source(self) -> tuple[str, str]:
        """The model source that decides, as (field, value): checkpoint_id > model_id > model_path."""
        for field in ("checkpoint_id", "model_id", "model_path"):
            value = getattr(self, field)
            if value is not None:
                return field, value
        raise InvalidField("model_path", "one of model_path, model_id and checkpoint_id is required")


def _split(text: str | None) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def parse_job(body: object) -> Job:
    """The validated job of a JSON body.

    Raises:
        InvalidField: the first field that is wrong, and what would be right; all others are named too.
    """
    if not isinstance(body, dict):
        raise InvalidField("body", "a JSON object is required")
    if "extender" in body and "extenders" in body:
        raise InvalidField("extender", "is another name of extenders; give one of them")
    sent = {key: value for key, value in body.items() if key not in SERVER_FIELDS}
    try:
        job = Job.model_validate(sent)
    except ValidationError as error:
        raise invalid_field(error) from None
    _check_exclusive(job)
    _check_quorum(job)
    plan.check(job)
    privacy.check(job)
    secure.check(job)
    return job


def _check_exclusive(job: Job) -> None:
    if job.task_entry is not None and job.scripts is not None:
        raise InvalidField("task_entry", "excludes scripts; give one of them")
    if job.task_entry is None and job.scripts is None:
        raise InvalidField("task_entry", "one of task_entry and scripts is required")
    _ = job.model_source
    for field, names, pattern in (
        ("clients", job.client_labels, r"[^\s,]+"),
        ("datasets", job.dataset_names, PLAIN_NAME.strip("^$")),
    ):
        if getattr(job, field) is not None and not names:
            raise InvalidField(field, "names nothing; leave the field out or give names separated by ','")
        wrong = [name for name in names if not re.fullmatch(pattern, name)]
        if wrong:
            raise InvalidField(field, f"{wrong[0]!r} is no valid name")


def _check_quorum(job: Job) -> None:
    labels, wanted = job.client_labels, job.hyper_parameters.client_num
    if labels and len(labels) < wanted:
        raise InvalidField(
            "clients", f"names {len(labels)} sites, hyper_parameters.client_num asks for {wanted}"
        )
    algorithm = job.secure_algorithm
    if algorithm and algorithm.threshold and algorithm.threshold > job.hyper_parameters.threshold_client_num:
        raise InvalidField(
            "secure_algorithm.threshold",
            f"must be at most threshold_client_num, {job.hyper_parameters.threshold_client_num}",
        )
