"""The exchange's JSON bodies; large bodies (weights, scripts, updates) travel beside them as raw bytes.

All paths lie under `/exchange/v1`. A site only ever dials out:

```text
POST   /sites/{site}/register                 Registration  -> Registered
POST   /sites/{site}/poll                     PollRequest   -> PollAnswer   held open up to wait_s
                                              Catchment-Accepts: traceparent -> orders may carry it
POST   /sites/{site}/leave                    Leave         -> 204       410 when another session runs
GET    /sites/{site}/blobs/{digest}           bytes; Range is honoured, ETag is the digest
HEAD   /sites/{site}/work/{id}/update         Upload-Offset: bytes stored so far
PUT    /sites/{site}/work/{id}/update         a chunk; Content-Range: bytes a-b/total,
                                              Update-Digest: sha256:... -> Upload-Offset;
                                              409 with Upload-Offset when it does not continue
       /sites/{site}/work/{id}/files          HEAD and PUT likewise: the archive of what put_file was given
POST   /sites/{site}/work/{id}/result         WorkResult    -> ResultAnswer  safe to repeat
```

Requests of a site that traces carry W3C's header `traceparent`. Errors are RFC 9457 problem details. A site
that is not registered (any more) gets 410 and registers again.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from catchment.wire.secagg import SecureOrder

ACCEPTS = "Catchment-Accepts"
"""Header of a poll: names of optional fields that the site knows. Messages refuse keys that they do not
know, so what is new is sent to those alone who have said so."""
PROTOCOL = 1
"""Version of these messages. A coordinator serves this one and refuses others with a clear 400."""

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", description="SHA-256 of the bytes.")]
SiteName = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="Unique name of a site.")
]


def plain_file_name(name: str) -> str:
    """The name itself. Raises ValueError when it is no plain name of a file, without folders."""
    if name in ("", ".", "..") or any(mark in name for mark in "/\\\0") or len(name.encode()) > 200:
        raise ValueError(f"{name!r} is no plain file name of at most 200 bytes")
    return name


FileName = Annotated[str, AfterValidator(plain_file_name)]
Scalar = str | int | float | bool | None
Runtime = Literal["pytorch", "keras"]
WorkKind = Literal["train", "evaluate"]


class Message(BaseModel):
    """Base of all messages: unknown keys are refused, so that a misspelt field is never silently lost."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SiteResources(Message):
    """What a site offers in total."""

    cpu: Annotated[float, Field(gt=0)] = 1.0
    memory_mb: Annotated[int, Field(gt=0)] = 1000
    gpu: Annotated[int, Field(ge=0)] = 0


class Isolation(Message):
    """What a site keeps sent scripts from, as its agent has tried it out at its start.

    Each part is true where it was tried and held; `missing` says for each other part why not.
    """

    mode: Annotated[
        Literal["auto", "require", "off"],
        Field(description="auto: isolate as far as possible; require: refuse what cannot be isolated."),
    ]
    entries: Annotated[bool, Field(description="Whether the site's own entries are isolated as well.")] = (
        False
    )
    files: Annotated[bool, Field(description="Sees its task, its data (read-only) and programs only.")] = (
        False
    )
    network: Annotated[bool, Field(description="Has no network but 127.0.0.1 of its own.")] = False
    processes: Annotated[bool, Field(description="Sees and signals its own processes only.")] = False
    privileges: Annotated[bool, Field(description="Holds no capability and can regain none.")] = False
    user: Annotated[bool, Field(description="Runs as another user than the agent.")] = False
    missing: dict[str, str] = {}


class Registration(Message):
    """A site introduces itself; repeated at each start of its agent and after a 410."""

    protocol: int = PROTOCOL
    session: Annotated[
        str, Field(min_length=8, max_length=64, description="Random id of this agent process.")
    ]
    address: Annotated[
        str, Field(pattern=r"^[^\s,]{1,255}$", description="Label ip:port that a job's `clients` refers to.")
    ]
    runtimes: tuple[Runtime, ...]
    datasets: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    resources: SiteResources = SiteResources()
    max_task_parallelism: Annotated[int, Field(ge=-1, description="-1: no limit.")] = 1
    allow_scripts: Literal["never", "listed", "always"] = "never"
    isolation: Annotated[
        Isolation | None, Field(description="null: the site runs no scripts that would be isolated.")
    ] = None
    agent_version: str = ""
    identity: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9a-f]{64}$",
            description="Ed25519 public key that signs the site's keys of secure aggregation.",
        ),
    ] = None


class Registered(Message):
    """The coordinator's answer to a registration: the pace that it expects."""

    protocol: int = PROTOCOL
    lease_s: float
    poll_s: float


class PollRequest(Message):
    """A sign of life and a request for work; held open until there is something to say, or for `wait_s`."""

    session: str
    free: Annotated[int, Field(ge=0, description="How many more works this site can begin now.")]
    holding: tuple[str, ...] = ()
    """Ids of all works that the site knows and has not delivered, waiting, running or in its outbox."""
    wait_s: Annotated[float, Field(ge=0, le=60)] = 10.0


class Leave(Message):
    """A goodbye. Agents of earlier versions send an empty body, which ends whatever session there is."""

    session: Annotated[
        str | None, Field(description="The registration that ends; a newer one and its work go on.")
    ] = None


class Blob(Message):
    """Bytes that a site fetches by digest."""

    digest: Digest
    size_bytes: Annotated[int, Field(ge=0)]


class Resource(Message):
    """What each worker of a job needs at the site (the document's Resource object)."""

    worker_num: Annotated[int, Field(ge=1)] = 1
    cpu: Annotated[float, Field(gt=0)] = 1.0
    gpu: Annotated[int, Field(ge=0)] = 0
    memory: Annotated[int, Field(gt=0, description="MB")] = 1000


class SentScripts(Message):
    """Scripts that travel with the work: a zip of the job's script folder."""

    archive: Blob
    config_file: str
    folder: Annotated[str, Field(description="Name of the folder, the last part of the job's scripts.path.")]


class Algorithm(Message):
    """A named algorithm of the job (strategy, optimizer, loss, compression) with its parameters."""

    name: str
    params: dict[str, Any] = {}


class SitePrivacy(Message):
    """What a site does to its update before it leaves: clip to a norm, then add Gaussian noise."""

    clip_norm: Annotated[
        float | None, Field(gt=0, description="Largest L2 norm of the whole update; null: no clipping.")
    ] = None
    noise_std: Annotated[float, Field(ge=0, description="Of the noise on each element.")] = 0.0
    same_noise: Annotated[bool, Field(description="One draw for a whole tensor: no guarantee.")] = False


class WorkOrder(Message):
    """One site's share of one round: train or evaluate from the given weights."""

    work_id: str
    kind: WorkKind
    namespace: str
    job_id: str
    run: int
    round: Annotated[int, Field(ge=1)]
    attempt: Annotated[int, Field(ge=0)]
    runtime: Runtime
    weights: Blob
    task_entry: str | None = None
    scripts: SentScripts | None = None
    parameters: dict[str, Scalar] = {}
    prepared: dict[FileName, Blob] = {}
    """Files that the job's broadcast function made for the script (fl.get_file)."""
    prepared_parameters: dict[str, Any] = {}
    """Parameters that it made for the script (fl.get_parameter)."""
    files_wanted: bool = False
    """Whether somebody uses what the script hands over with fl.put_file; otherwise it stays at the site."""
    datasets: tuple[str, ...] = ()
    strategy: Algorithm | None = None
    """The aggregation rule, where the site has a part in it: which tensors it sends and which it keeps."""
    optimizer: Algorithm | None = None
    loss: Algorithm | None = None
    compression: Algorithm | None = None
    privacy: SitePrivacy | None = None
    secure: SecureOrder | None = None
    """Secure aggregation: the update leaves the site masked only (catchment.wire.secagg)."""
    state: Blob | None = None
    """Arrays of the strategy that every client of the round gets, such as SCAFFOLD's control variate."""
    client_state: str | None = None
    """Id of the site's own work whose client state this one goes on from: its last one that was part of a
    committed round of this run. null: it has none, and begins anew."""
    resource: Resource = Resource()
    seed: Annotated[int, Field(description="Seed of this site's randomness in this round.")]
    timeout_s: Annotated[float, Field(description="Seconds until the round's deadline, when it is sent.")]
    traceparent: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9a-f]{2}(-[0-9a-f]+){3}$",
            description="W3C trace context of the round; sent only to sites that say that they know it.",
        ),
    ] = None


class Cancel(Message):
    """The site must stop this work now and forget it."""

    work_id: str
    reason: str


class PollAnswer(Message):
    """New work, and work that is no longer wanted. Works of `holding` that are not cancelled go on."""

    work: tuple[WorkOrder, ...] = ()
    cancel: tuple[Cancel, ...] = ()


class WorkResult(Message):
    """How a work ended. An update's bytes are uploaded first, then this message names their digest."""

    status: Literal["done", "failed"]
    reason: Annotated[str, Field(max_length=2000)] = ""
    update: Blob | None = None
    """safetensors of the client update: float tensors as differences to the round's weights (float32 for
    float16 and bfloat16 weights), integer and boolean tensors as values, and the strategy's own vectors
    (catchment.strategies.vectors)."""
    files: Blob | None = None
    """Zip of what the script handed over with put_file, uploaded first like the update."""
    metrics: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    """What the script handed over with put_parameter."""
    log_tail: Annotated[str, Field(max_length=20_000)] = ""
    started_at: float = 0.0
    seconds: Annotated[float, Field(ge=0)] = 0.0


class ResultAnswer(Message):
    """Whether the result counts. Either way the site may forget the work."""

    accepted: bool
    reason: str = ""
