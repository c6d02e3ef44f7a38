"""What the server answers, as typed values; `document` keeps the answer as it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catchment.client.reading import reading
from catchment.errors import Unreachable

ENDED = frozenset({"FINISHED", "FAILED", "STOPPED"})


@dataclass(frozen=True)
class Outage:
    """The server does not answer since `seconds`; `reason` is None when it answers again."""

    reason: str | None
    seconds: float


@dataclass(frozen=True)
class Checkpoint:
    """A saved model of a job."""

    id: str
    accuracy: float | None
    path: str
    """Relative to the namespace's folder."""


@dataclass(frozen=True)
class Job:
    """A federated job as the server shows it."""

    namespace: str
    id: str
    state: str
    reason: str
    progress: int
    """0 to 100."""
    create_time: str
    start_time: str | None
    finish_time: str | None
    run: int
    flow_run_id: str | None
    checkpoints: tuple[Checkpoint, ...]
    """Oldest first."""
    document: Mapping[str, Any] = field(repr=False)

    @property
    def ended(self) -> bool:
        """True when nothing happens any more unless somebody starts the job again."""
        return self.state in ENDED

    @classmethod
    def parse(cls, document: Any) -> Job:
        """The job of an answer's JSON.

        Raises:
            Unreachable: this is no answer of a Catchment server.
        """
        with reading("job"):
            status = document["status"]
            return cls(
                namespace=document["namespace"],
                id=document["id"],
                state=status["state"],
                reason=status.get("reason") or "",
                progress=int(status.get("progress") or 0),
                create_time=document.get("create_time") or "",
                start_time=document.get("start_time"),
                finish_time=document.get("finish_time"),
                run=int(document.get("run") or 0),
                flow_run_id=document.get("flow_run_id"),
                checkpoints=_checkpoints(document.get("checkpoints") or {}),
                document=document,
            )


@dataclass(frozen=True)
class SiteOutcome:
    """How one site's work of a round ended."""

    site: str
    outcome: str
    reason: str
    num_samples: int | None
    seconds: float

    @property
    def counted(self) -> bool:
        """Whether the work went into the round's result."""
        return self.outcome == "admitted"


@dataclass(frozen=True)
class Round:
    """One attempt at a round of a job."""

    run: int
    number: int
    attempt: int
    state: str
    reason: str
    rule: str
    cohort: tuple[str, ...]
    started_at: str | None
    seconds: float | None
    evaluation_seconds: float | None
    """None while it is not evaluated."""
    training_metrics: Mapping[str, Any]
    metrics: Mapping[str, Any]
    """Sample-weighted means over the sites' test data; empty when this round was not evaluated (yet)."""
    sites: tuple[SiteOutcome, ...]
    evaluation: tuple[SiteOutcome, ...]
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, document: Any) -> Round:
        """The round of an answer's JSON.

        Raises:
            Unreachable: this is no answer of a Catchment server.
        """
        with reading("round"):
            return cls(
                run=int(document["run"]),
                number=int(document["round"]),
                attempt=int(document.get("attempt") or 0),
                state=document["state"],
                reason=document.get("reason") or "",
                rule=document.get("rule") or "",
                cohort=tuple(document.get("cohort") or ()),
                started_at=document.get("started_at"),
                seconds=document.get("seconds"),
                evaluation_seconds=(document.get("phases") or {}).get("evaluate"),
                training_metrics=document.get("training_metrics") or {},
                metrics=document.get("metrics") or {},
                sites=tuple(_outcome(item) for item in document.get("sites") or ()),
                evaluation=tuple(_outcome(item) for item in document.get("evaluation") or ()),
                document=document,
            )


@dataclass(frozen=True)
class Site:
    """A site as it registered itself."""

    name: str
    address: str
    online: bool
    last_seen: str | None
    working: int
    runtimes: tuple[str, ...]
    datasets: tuple[str, ...]
    entries: tuple[str, ...]
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, document: Any) -> Site:
        """The site of an answer's JSON.

        Raises:
            Unreachable: this is no answer of a Catchment server.
        """
        with reading("site"):
            return cls(
                name=document["name"],
                address=document["address"],
                online=bool(document["online"]),
                last_seen=document.get("last_seen"),
                working=int(document.get("working") or 0),
                runtimes=tuple(document.get("runtimes") or ()),
                datasets=tuple(document.get("datasets") or ()),
                entries=tuple(document.get("entries") or ()),
                document=document,
            )


@dataclass(frozen=True)
class Namespace:
    """A namespace of jobs."""

    name: str
    create_time: str

    @classmethod
    def parse(cls, document: Any) -> Namespace:
        """The namespace of an answer's JSON.

        Raises:
            Unreachable: this is no answer of a Catchment server.
        """
        with reading("namespace"):
            return cls(name=document["name"], create_time=document.get("create_time") or "")


@dataclass(frozen=True)
class Version:
    """What runs at the server."""

    version: str
    prefect_ui: str
    """Address of the Prefect UI, empty when the server does not know it."""
    document: Mapping[str, Any] = field(repr=False)

    def run_page(self, flow_run_id: str | None) -> str:
        """Address of a flow run's page in the Prefect UI, empty when there is none."""
        if not self.prefect_ui or not flow_run_id:
            return ""
        return f"{self.prefect_ui.rstrip('/')}/runs/flow-run/{flow_run_id}"


def listed(document: Any, key: str) -> list[Any]:
    """The list under `key`, or the document itself when it is one.

    Raises:
        Unreachable: there is no list.
    """
    found = document.get(key) if isinstance(document, dict) else document
    if not isinstance(found, list):
        raise Unreachable(f"the server's answer holds no list of {key}; is that a Catchment server?")
    return found


def _checkpoints(documents: Mapping[str, Any]) -> tuple[Checkpoint, ...]:
    found = [Checkpoint(name, item.get("accuracy"), item["path"]) for name, item in documents.items()]
    return tuple(sorted(found, key=lambda checkpoint: (len(checkpoint.id), checkpoint.id)))


def _outcome(document: Mapping[str, Any]) -> SiteOutcome:
    return SiteOutcome(
        site=document["site"],
        outcome=document["outcome"],
        reason=document.get("reason") or "",
        num_samples=document.get("num_samples"),
        seconds=float(document.get("seconds") or 0.0),
    )
