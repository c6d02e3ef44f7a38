"""The client's part for models: their versions, and their bytes up and down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from catchment.client import transfers
from catchment.client.connection import Connection
from catchment.client.reading import reading
from catchment.errors import NotFound, Refused

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""


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


class Models:
    """Operations on models; errors are those of `Client`.

    Args:
        connection: for small requests.
        connect: opens a connection for a transfer.
    """

    def __init__(self, connection: Connection, connect: Callable[[], Connection]) -> None:
        self._connection = connection
        self._connect = connect

    def create(
        self,
        name: str,
        version: str,
        runtime: str,
        *,
        namespace: str = "default",
        model_path: str | None = None,
        file_name: str | None = None,
        description: str = "",
    ) -> ModelVersion:
        """A new version: copied from `model_path` in the namespace's folder, or waiting for `file_name`."""
        body = {"name": name, "version": version, "runtime": runtime, "description": description}
        body |= {"model_path": model_path} if model_path is not None else {}
        body |= {"file_name": file_name} if file_name is not None else {}
        return ModelVersion.parse(self._connection.json("POST", _models(namespace), body))

    def push(
        self,
        source: Path,
        name: str,
        version: str,
        runtime: str,
        *,
        namespace: str = "default",
        description: str = "",
        progress: Progress | None = None,
    ) -> ModelVersion:
        """Upload a file as a new version, or go on with one that was begun; the ready version.

        Raises:
            Refused: the version is there already with other bytes, or the file is none.
        """
        source = Path(source)
        if not source.is_file() or not source.stat().st_size:
            raise Refused(f"{source} is no file with anything in it")
        try:
            found = self.get(name, version, namespace=namespace)
        except NotFound:
            found = self.create(
                name, version, runtime, namespace=namespace, file_name=source.name, description=description
            )
        if found.state == "ready":
            if found.digest != transfers.file_digest(source):
                raise Refused(
                    f"version {version} of model {name} is there with other bytes; push a new version"
                )
            return found
        path = _content(found.id, **({} if found.file_name else {"file_name": source.name}))
        answer = transfers.upload(self._connect, path, source, progress or _silent)
        return ModelVersion.parse(answer)

    def pull(
        self,
        name: str,
        version: str,
        target: Path,
        *,
        namespace: str = "default",
        progress: Progress | None = None,
    ) -> Path:
        """Download a ready version's file to `target`, a file or a folder; goes on with what is there of it.

        The file appears when its digest is right, not before.

        Raises:
            DigestMismatch: the bytes are not the version's.
        """
        found = self.get(name, version, namespace=namespace)
        if found.state != "ready":
            raise Refused(f"version {version} of model {name} is {found.state}, not ready")
        if found.file_name is None or found.digest is None:
            raise Refused(f"version {version} of model {name} has several files; download it as a zip")
        target = Path(target)
        if target.is_dir():
            target /= found.file_name
        transfers.download(
            self._connect, _content(found.id), target, found.digest, found.size_bytes, progress or _silent
        )
        return target

    def get(self, name: str, version: str, *, namespace: str = "default") -> ModelVersion:
        """One version of a model."""
        answer = self._connection.json("GET", f"{_model(namespace, name)}?{urlencode({'version': version})}")
        return _listed(answer)[0]

    def get_by_id(self, model_id: str) -> ModelVersion:
        """One version by its id."""
        return ModelVersion.parse(self._connection.json("GET", _by_id(model_id)))

    def versions(self, name: str, *, namespace: str = "default") -> list[ModelVersion]:
        """All versions of a model, oldest first."""
        return _listed(self._connection.json("GET", _model(namespace, name)))

    def list(
        self, *, namespace: str = "default", offset: int = 0, limit: int | None = None
    ) -> list[ModelVersion]:
        """All versions of all models of a namespace, by name, then oldest first."""
        wanted = {"offset": offset or None, "limit": limit}
        query = urlencode({key: value for key, value in wanted.items() if value is not None})
        return _listed(self._connection.json("GET", _models(namespace) + (f"?{query}" if query else "")))

    def update(self, model_id: str, **changes: Any) -> ModelVersion:
        """Change `description`, or report `state` and `progress` of an upload that goes another way."""
        return ModelVersion.parse(self._connection.json("PUT", _by_id(model_id), changes))

    def delete(self, name: str, version: str | None = None, *, namespace: str = "default") -> None:
        """Delete a version, or without one all versions of the model."""
        query = f"?{urlencode({'version': version})}" if version is not None else ""
        self._connection.json("DELETE", _model(namespace, name) + query)

    def lineage(self, model_id: str) -> Mapping[str, Any]:
        """Where a version came from, what was made from it, and who did what to it."""
        with reading("lineage"):
            return dict(self._connection.json("GET", f"/api/v1/models/lineage?{_id(model_id)}"))


def _silent(_done: int, _total: int) -> None:
    return None


def _listed(answer: Any) -> list[ModelVersion]:
    with reading("list of models"):
        return [ModelVersion.parse(item) for item in answer["models"]]


def _models(namespace: str) -> str:
    return f"/api/v1/namespaces/{_part(namespace)}/models"


def _model(namespace: str, name: str) -> str:
    return f"{_models(namespace)}/{_part(name)}"


def _part(name: str) -> str:
    if not name or name in {".", ".."}:
        raise Refused(f"{name!r} is no name")
    return quote(name, safe="")


def _id(model_id: str) -> str:
    return urlencode({"model_id": model_id})


def _by_id(model_id: str) -> str:
    return f"/api/v1/models?{_id(model_id)}"


def _content(model_id: str, **more: str) -> str:
    return f"/api/v1/models/content?{urlencode({'model_id': model_id, **more})}"
