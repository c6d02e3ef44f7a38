"""A version of a model, as the client's methods give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catchment.client.reading import reading


@dataclass(frozen=True)
class ModelVersion:
    """A version of a model as the server shows it."""

    id: str
    namespace: str
    name: str
    version: str
    runtime: str
    format: str
    state: str
    progress: int
    """0 to 100."""
    description: str
    create_time: str
    storage_info: tuple[str, str]
    file_name: str | None
    digest: str | None
    size_bytes: int
    error: str
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, document: Any) -> ModelVersion:
        """The version of an answer's JSON.

        Raises:
            Unreachable: this is no answer of a Catchment server.
        """
        with reading("model"):
            info = document["version_info"]
            namespace, path = document["storage_info"]
            return cls(
                id=document["id"],
                namespace=document["namespace"],
                name=document["name"],
                version=info["version"],
                runtime=document["runtime"],
                format=document.get("format") or "",
                state=document["state"],
                progress=int(document.get("progress") or 0),
                description=info.get("description") or "",
                create_time=info.get("time") or "",
                storage_info=(namespace, path),
                file_name=document.get("file_name"),
                digest=document.get("digest"),
                size_bytes=int(document.get("size_bytes") or 0),
                error=document.get("error_msg") or "",
                document=document,
            )
