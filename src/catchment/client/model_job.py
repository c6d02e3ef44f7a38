"""A ModelJob, as the client's methods give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catchment.client.reading import reading

ENDED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True)
class ModelJob:
    """A ModelJob as the server shows it."""

    namespace: str
    name: str
    phase: str
    message: str
    model: str
    """The version that it reads, as its spec names it."""
    target: str
    """Where its result goes; empty: to the version itself."""
    kind: str
    """`extraction`, or the pair of a conversion such as `H5 to ONNX`."""
    create_time: str
    start_time: str
    finish_time: str
    result_id: str
    """Of the version that it made or changed; empty before it is pushed."""
    document: Mapping[str, Any] = field(repr=False)

    @property
    def ended(self) -> bool:
        """True when nothing happens any more."""
        return self.phase in ENDED

    @classmethod
    def parse(cls, document: Any) -> ModelJob:
        """The ModelJob of an answer's JSON.

        Raises:
            Unreachable: this is no answer of a Catchment server.
        """
        with reading("ModelJob"):
            meta, spec, status = document["metadata"], document["spec"], document["status"]
            return cls(
                namespace=meta["namespace"],
                name=meta["name"],
                phase=status["phase"],
                message=status.get("message") or "",
                model=spec["model"],
                target=spec.get("desiredTag") or "",
                kind=_kind(spec),
                create_time=meta.get("creationTimestamp") or "",
                start_time=status.get("startTime") or "",
                finish_time=status.get("completionTime") or "",
                result_id=status.get("resultModelID") or "",
                document=document,
            )


def _kind(spec: Mapping[str, Any]) -> str:
    conversion = spec.get("conversion")
    if not conversion:
        return "extraction"
    return f"{conversion['mmdnn']['from']} to {conversion['mmdnn']['to']}"
