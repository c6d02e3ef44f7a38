"""The bodies as the OpenAPI document describes them; what the library answers is not checked again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from catchment.catalog.spec import Change, NewModel
from catchment.catalog.states import ModelState
from catchment.jobs import spec
from catchment.jobs.states import JobState, RoundState, WorkState
from catchment.model_jobs import spec as model_job_spec
from catchment.model_jobs.states import Phase
from catchment.wire.messages import (
    Isolation,
    Leave,
    PollRequest,
    Registration,
    Runtime,
    SiteResources,
    WorkResult,
)

ServerText = Annotated[str | None, Field(json_schema_extra={"readOnly": True})]
ServerNumber = Annotated[int, Field(json_schema_extra={"readOnly": True})]


class Shape(BaseModel):
    """Base of all: nothing is left undescribed."""

    model_config = ConfigDict(extra="forbid")


class HttpResponse(Shape):
    """The document's HttpResponse."""

    state: Literal["SUCCESSFUL", "FAILED"]
    reason: Annotated[str, Field(description="Only with FAILED: what is wrong, naming the field.")] = ""


class Problem(BaseModel):
    """RFC 9457 problem details; `error` names the kind, further members its facts."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    error: str = ""


class Status(Shape):
    """The document's Status, with STOPPING and STOPPED: a stop is no failure."""

    state: JobState
    reason: str
    progress: Annotated[int, Field(ge=0, le=100)]


class CheckPoint(Shape):
    """The document's CheckPoint; accuracy is null where no site reported one."""

    accuracy: float | None
    path: str


class Privacy(Shape):
    """What a job has cost in privacy; null stands for infinity."""

    epsilon: float | None
    delta: float
    accountant: Annotated[str, Field(description="exact, PLD, RDP or none.")]
    rdp_epsilon: float | None
    epsilon_to_coordinator: float | None
    guarantee: Annotated[str, Field(description="The guarantee in words, or why there is none.")]
    epsilon_budget: float | None = None


class Job(spec.Job):
    """The document's Job: what a user sends, and read-only what the server adds."""

    namespace: ServerText = None
    create_time: ServerText = None
    start_time: ServerText = None
    finish_time: ServerText = None
    status: Annotated[Status | None, Field(json_schema_extra={"readOnly": True})] = None
    checkpoints: Annotated[
        dict[str, CheckPoint], Field(default_factory=dict, json_schema_extra={"readOnly": True})
    ]
    run: ServerNumber = 0
    flow_run_id: ServerText = None
    privacy: Annotated[
        Privacy | None,
        Field(description="Of a job with differential privacy.", json_schema_extra={"readOnly": True}),
    ] = None


class JobList(Shape):
    """The document's JobList."""

    jobs: list[Job]


class Namespace(Shape):
    """A namespace."""

    name: str
    create_time: str


class NamespaceList(Shape):
    """All namespaces, by name."""

    namespaces: list[Namespace]


class Outcome(Shape):
    """One site's part in one attempt at a round."""

    site: str
    outcome: WorkState
    reason: str
    num_samples: int | None
    seconds: float
    bytes: int
    metrics: dict[str, Any] | None


class Round(Shape):
    """One attempt at one round."""

    run: int
    round: int
    attempt: int
    state: RoundState
    reason: str
    rule: str
    cohort: list[str]
    started_at: str
    seconds: float | None
    phases: dict[str, float | None]
    strategy: Annotated[
        dict[str, Any] | None,
        Field(description="Of a committed round: the strategy's `name`, and `metrics` of its aggregation."),
    ]
    privacy: Annotated[
        dict[str, Any] | None,
        Field(description="Of a job with differential privacy: what was done, and the fields of Privacy."),
    ]
    training_metrics: dict[str, Any] | None
    metrics: dict[str, Any] | None
    sites: list[Outcome]
    evaluation: list[Outcome]


class RoundList(Shape):
    """The attempts at the rounds of one run, oldest first."""

    rounds: list[Round]


class LogLine(Shape):
    """One line of a job's log."""

    number: Annotated[
        int, Field(description="From 1 on, without gaps; the oldest lines go when there are many.")
    ]
    at: str
    level: Literal["info", "warning", "error"]
    source: Annotated[str, Field(description="`coordinator`, or the site whose script printed it.")]
    run: int | None
    round: int | None
    text: str


class LogPage(Shape):
    """Lines of a job's log, newest last."""

    lines: list[LogLine]
    next: Annotated[int, Field(description="Ask for lines after this one.")]
    more: Annotated[bool, Field(description="Whether there are more already.")]


class RegistryError(Shape):
    """An error of the registry's operations."""

    message: str
    reason: Annotated[str, Field(description="The kind of the error.")] = ""


class ComparedModel(Shape):
    """A version to compare."""

    name: str
    project: str
    tag: str


class Compared(Shape):
    """Versions to compare."""

    models: list[ComparedModel]


class ComparisonItem(Shape):
    """What one version says of itself: the fields of an ormbfile.yaml."""

    metadata: dict[str, Any]
    path: Annotated[str, Field(description="project/name:tag")]


class ListMeta(Shape):
    """How many there are in all."""

    totalItems: int  # noqa: N815 - the original's name


class Comparison(Shape):
    """Versions side by side."""

    metadata: ListMeta
    items: list[ComparisonItem]


class ObjectMeta(BaseModel):
    """The parts of a Kubernetes object's metadata that are looked at."""

    model_config = ConfigDict(extra="allow")

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}


class ModelJobStatus(BaseModel):
    """How a ModelJob is; further fields say what its steps have found."""

    model_config = ConfigDict(extra="allow")

    phase: Phase
    message: str


class ModelJob(Shape):
    """The document's ModelJob."""

    apiVersion: Literal["kleveross.io/v1alpha1"] = "kleveross.io/v1alpha1"  # noqa: N815
    kind: Literal["ModelJob"] = "ModelJob"
    metadata: ObjectMeta
    spec: model_job_spec.Spec
    status: Annotated[ModelJobStatus | None, Field(json_schema_extra={"readOnly": True})] = None


class ModelJobList(Shape):
    """A page of ModelJobs."""

    metadata: ListMeta
    items: list[ModelJob]


class FormatPair(Shape):
    """A conversion from one format to another."""

    from_: Annotated[str, Field(alias="from")]
    to: str


class ConversionBackend(Shape):
    """What converts models, as the machine of the API sees it."""

    name: str
    about: str
    python: Annotated[str, Field(description="Version of the interpreter that it needs.")]
    packages: Annotated[dict[str, str], Field(description="Versions of the packages of its environment.")]
    available: Annotated[bool, Field(description="Its environment is there, or can be built.")]
    built: Annotated[bool, Field(description="Nothing has to be fetched any more.")]
    reason: Annotated[str, Field(description="Why it is not available, or what its first use will do.")]
    converts: list[FormatPair]
    compares: Annotated[list[str], Field(description="Formats that it runs, for results to be compared.")]


class ConversionBackends(Shape):
    """All backends of conversions."""

    backends: list[ConversionBackend]


class EventList(Shape):
    """A page of core/v1 Events."""

    metadata: ListMeta
    items: list[dict[str, Any]]


class PodList(BaseModel):
    """A core/v1 PodList."""

    model_config = ConfigDict(extra="allow")

    items: list[dict[str, Any]]


class LogDetails(Shape):
    """A part of a log, in the shape of the Kubernetes dashboard."""

    info: dict[str, Any]
    selection: dict[str, Any]
    logs: list[dict[str, str]]


class VersionInfo(Shape):
    """The document's VersionInfo."""

    version: str
    time: str
    description: str


class ModelDetail(Shape):
    """The document's ModelDetail, and what Catchment knows beyond it."""

    name: str
    runtime: str
    namespace: str
    id: str
    state: ModelState
    progress: Annotated[int, Field(ge=0, le=100)]
    version_info: VersionInfo
    storage_info: Annotated[
        tuple[str, str],
        Field(description="(namespace, path): where the file lies, or is put by who uploads past Catchment."),
    ]
    model_path: str | None
    file_name: str | None
    error_msg: str | None
    format: Annotated[str | None, Field(description="Such as ONNX or SavedModel, where it is known.")]
    digest: Annotated[str | None, Field(description="Of its one file, or of the list of its files.")]
    size_bytes: int
    signature: Annotated[
        dict[str, Any] | None,
        Field(description="inputs, outputs and layers, where an extraction found them."),
    ]
    equivalence: Annotated[
        dict[str, Any] | None, Field(description="The report of the gate, of a version that was converted.")
    ]


class ModelList(Shape):
    """The document's ModelList."""

    models: list[ModelDetail]


class SignedAddress(Shape):
    """An address that carries the right to one kind of request for a while."""

    url: str
    method: Literal["GET", "PUT"]
    expires_s: int
    digest: Annotated[str | None, Field(description="That what is fetched must have.")] = None


class ModelName(BaseModel):
    """What names a version; `made_from` says where it came from."""

    id: str
    namespace: str | None = None
    name: str | None = None
    version: str | None = None
    made_from: dict[str, Any] | None = None


class AuditEntry(Shape):
    """One thing that somebody did to a version."""

    time: str
    action: str
    actor: Annotated[str, Field(description="The login that was proven.")]
    claimed: Annotated[str, Field(description="X-Tenant/X-User of the request, which prove nothing.")]
    detail: dict[str, Any] | None = None


class Lineage(Shape):
    """Where a version came from, what was made from it, and who did what to it."""

    model: ModelName
    digest: str | None
    made_from: dict[str, Any] | None
    ancestors: list[ModelName]
    descendants: list[ModelName]
    events: list[AuditEntry]


class Site(Shape):
    """A site as it registered, and whether it lives."""

    name: str
    address: str
    runtimes: list[Runtime]
    datasets: list[str]
    entries: list[str]
    resources: SiteResources
    max_task_parallelism: int
    allow_scripts: str
    mutual_tls: bool
    isolation: Annotated[Isolation | None, Field(description="null: it runs no scripts that are isolated.")]
    online: bool
    last_seen: str
    working: int


class SiteList(Shape):
    """All sites that ever registered, by name."""

    sites: list[Site]


class Ready(Shape):
    """Whether the API and what it needs answer; `reasons` holds null for each part that does."""

    ready: bool
    reasons: dict[str, str | None]


class Version(Shape):
    """What runs here."""

    version: str
    protocol: Annotated[int, Field(description="Version of the exchange with the sites.")]
    auth: Literal["loopback", "tokens"]
    prefect_ui: Annotated[str, Field(description="Address of the Prefect UI, empty when not known.")]


MESSAGES: tuple[type[BaseModel], ...] = (
    Registration,
    PollRequest,
    Leave,
    WorkResult,
    NewModel,
    Change,
    Compared,
)
"""Bodies of requests that no route's signature names."""
