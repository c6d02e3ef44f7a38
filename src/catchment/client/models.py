"""The client's part for models: their versions, and their bytes up and down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from catchment.client import transfers
from catchment.client.connection import Connection
from catchment.client.model_version import ModelVersion
from catchment.client.reading import reading
from catchment.errors import NotFound, Refused, Unreachable

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""


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
        runtime: str = "",
        *,
        namespace: str = "default",
        description: str = "",
        format: str = "",
        tenant: str = "",
        user: str = "",
        progress: Progress | None = None,
    ) -> ModelVersion:
        """Upload a file or a folder as a new version, or go on with one that was begun; the ready version.

        A folder holds `model/` and perhaps `ormbfile.yaml`; its zip is made while it is sent.

        Args:
            source: file or folder.
            name: of the model.
            version: of the model.
            runtime: of a file; a folder's format says it.
            namespace: of the model.
            description: of the version; goes before the one in `ormbfile.yaml`.
            format: of a folder; goes before the one in `ormbfile.yaml`, and without either the files say it.
            tenant: for whom a folder is uploaded, only a claim; by default the login name.
            user: as before.
            progress: told the bytes done and in all.

        Raises:
            Refused: the version is there already with other bytes, or the file is none.
            BadArtifact: the folder holds no `model/`, or something in it cannot travel.
            FormatMismatch: the files are not what the format asks for.
        """
        source = Path(source)
        if source.is_dir():
            place = (namespace, name, version)
            return self._push_folder(source, place, description, format, (tenant, user), progress or _silent)
        if not runtime or format:
            raise Refused("a file needs a runtime and has no format; a folder is the other way round")
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

    def _push_folder(
        self,
        source: Path,
        place: tuple[str, str, str],
        description: str,
        format_name: str,
        who: tuple[str, str],
        progress: Progress,
    ) -> ModelVersion:
        from catchment.client import folders
        from catchment.models.files import with_checksums
        from catchment.models.folders import read_folder

        namespace, name, version = place
        config, files = read_folder(source, format_name)
        config = config.model_copy(update={"description": description or config.description})
        files = [with_checksums(file) for file in files]
        digest = folders.digest_of(files)
        found = self._ready(*place)
        if found is None:
            connection = self._connect()
            headers, path = folders.claims(*who), _registry(*place, "upload")
            try:
                folders.Upload(connection, path, name, config, files, headers).run(progress)
            except Refused:
                # The last answer may have been lost: then the version is there.
                if (found := self._ready(*place)) is None:
                    raise
            finally:
                connection.close()
        found = found or self.get(name, version, namespace=namespace)
        if found.digest != digest:
            raise Refused(f"version {version} of model {name} is there with other bytes; push a new version")
        return found

    def _ready(self, namespace: str, name: str, version: str) -> ModelVersion | None:
        """The version, if it is there and ready."""
        try:
            found = self.get(name, version, namespace=namespace)
        except NotFound:
            return None
        return found if found.state == "ready" else None

    def pull(
        self,
        name: str,
        version: str,
        target: Path,
        *,
        namespace: str = "default",
        tenant: str = "",
        user: str = "",
        progress: Progress | None = None,
    ) -> Path:
        """Download a ready version to `target`, or into it where it is a folder, or go on with a download.

        A version of one file is that file. One of several becomes a folder with `ormbfile.yaml` and `model/`.
        Either appears when its digest is right, not before; its path is returned.

        Args:
            name: of the model.
            version: of the model.
            target: where it goes.
            namespace: of the model.
            tenant: for whom several files are downloaded, only a claim; by default the login name.
            user: as before.
            progress: told the bytes done and in all.

        Raises:
            DigestMismatch: the bytes are not the version's.
            AlreadyExists: there is something in the folder that would be made.
            BadArtifact: the zip of several files holds what is not safe.
        """
        found = self.get(name, version, namespace=namespace)
        if found.state != "ready":
            raise Refused(f"version {version} of model {name} is {found.state}, not ready")
        target = Path(target)
        if target.is_dir():
            target /= found.file_name or name
        if found.digest is None:
            raise Unreachable(f"version {version} of model {name} is ready without a digest")
        if found.file_name is None:
            from catchment.client import folders

            path, headers = _registry(namespace, name, version, "download"), folders.claims(tenant, user)
            told = progress or _silent
            return folders.download(self._connect, path, target, found.digest, headers, told)
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


def _registry(namespace: str, name: str, version: str, operation: str) -> str:
    place = f"projects/{_part(namespace)}/models/{_part(name)}/versions/{_part(version)}"
    return f"/api/v1alpha1/{place}/{operation}"


def _id(model_id: str) -> str:
    return urlencode({"model_id": model_id})


def _by_id(model_id: str) -> str:
    return f"/api/v1/models?{_id(model_id)}"


def _content(model_id: str, **more: str) -> str:
    return f"/api/v1/models/content?{urlencode({'model_id': model_id, **more})}"
