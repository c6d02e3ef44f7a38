"""What is to run, and what is seen of it: the words between rollouts and the backends that run models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

MOST_CHARACTERS = 53
"""Of a key: with a suffix of ten more it is still a name for everything in Kubernetes."""
Readiness = Literal["starting", "ready", "failed", "absent"]


@dataclass(frozen=True)
class ServedModel:
    """A model version that is served.

    Attributes:
        model_id: of the version.
        reference: `project/name:version`.
        digest: of the version's files; what runs is this, whatever the reference comes to name later.
        format: as `models.formats` spells it.
        inputs, outputs: the stored signature's tensors, `{"name", "dType", "size"}`; -1 is an open dimension.
    """

    model_id: str
    reference: str
    digest: str
    format: str
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    size_bytes: int


@dataclass(frozen=True)
class ServingKey:
    """Which serving; `uid` stays the same for its life, and is no other's after it."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class Workload:
    """One predictor of one revision of a serving: so many equal model servers.

    Attributes:
        revision: of the serving, from 1; each rollout that changes something makes one.
        graph: the name of the predictor's graph, which Seldon's clients label pods with.
        resources: `{"requests": {...}, "limits": {...}}` in Kubernetes' units.
        env: variables of the model server's container.
        server: bounds of the model server (docs/model-server.md).
        pod: the user's pod spec of the predictor (componentSpecs[].spec), for clusters.
        runtime: the runtime that the user asked for; empty: the backend's choice for the format.
    """

    serving: ServingKey
    revision: int
    predictor: str
    graph: str
    model: ServedModel
    replicas: int = 1
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    pod: Mapping[str, Any] = field(default_factory=dict)
    runtime: str = ""

    @property
    def key(self) -> str:
        """Names the workload within its namespace; a DNS label."""
        name = f"{self.serving.name}-{self.predictor}-r{self.revision}".lower().replace(".", "-")
        if len(name) <= MOST_CHARACTERS:
            return name
        short = hashlib.sha256(name.encode()).hexdigest()[:8]
        return f"{name[: MOST_CHARACTERS - 10].rstrip('-')}-{short}"

    def to_json(self) -> dict[str, Any]:
        """A JSON value that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Workload:
        """The workload that `to_json` wrote."""
        model = value["model"]
        served = ServedModel(
            **{**model, "inputs": tuple(model["inputs"]), "outputs": tuple(model["outputs"])}
        )
        return cls(**{**value, "serving": ServingKey(**value["serving"]), "model": served})

    def scaled(self, replicas: int) -> Workload:
        """The same with another number of replicas."""
        return replace(self, replicas=replicas)


@dataclass(frozen=True)
class Observed:
    """How a workload is.

    Attributes:
        state: "ready" when all replicas answer; "failed" when waiting is of no use; "absent": not there.
        message: what a person should know: why it failed, or what it waits for.
    """

    state: Readiness
    ready: int = 0
    replicas: int = 0
    message: str = ""


@dataclass(frozen=True)
class Endpoint:
    """Where one model server, or a balancer before several, answers the Open Inference Protocol.

    Attributes:
        http: `http://host:port`.
        grpc: `host:port`, empty where there is none.
        model: the model's name in the protocol's addresses.
    """

    http: str
    grpc: str
    model: str


class Backend(Protocol):
    """Runs workloads and splits traffic between them. Every method may be called twice, after a crash too.

    All raise Unreachable when what they talk to does not answer; what a caller retries.
    """

    @property
    def name(self) -> str:
        """As a serving's `backend` names it."""

    def check(self, workload: Workload) -> None:
        """Whether it can run here at all.

        Raises:
            InvalidField: not its format, runtime or resources; the message says what would be right.
        """

    def apply(self, workload: Workload) -> None:
        """Have it run as described, with as many replicas; it takes no traffic by that."""

    def observe(self, workload: Workload) -> Observed:
        """How it is now."""

    def endpoints(self, workload: Workload) -> list[Endpoint]:
        """Where it answers, those that are ready."""

    def route(self, serving: ServingKey, weights: Mapping[str, int]) -> None:
        """Split the serving's traffic: percent by workload key, 100 together; {} takes none."""

    def routed(self, serving: ServingKey) -> dict[str, int]:
        """How the traffic is split now."""

    def remove(self, serving: ServingKey, keys: Iterable[str]) -> None:
        """Drain and end these workloads; those that are gone are no error."""

    def remove_all(self, serving: ServingKey) -> bool:
        """Drain and end everything of a serving; whether all of it is gone."""

    def pods(self, serving: ServingKey) -> list[dict[str, Any]]:
        """Its replicas in the shape of Kubernetes' pods; labels hold `app`, `seldon-deployment-id`,
        `catchment.io/serving`, `catchment.io/workload` and `seldon-app` (`<serving>-<graph>`)."""

    def log_lines(self, namespace: str, pod: str, container: str, most: int) -> list[tuple[str, str]]:
        """The last lines of a pod's log as (RFC 3339 time, text), oldest first.

        Raises:
            NotFound: no such pod, or no such container in it.
        """
