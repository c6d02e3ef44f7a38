"""Versions as a registry shows them: a model is a repository, `<namespace>/<name>`, a version a tag."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select

from catchment.catalog import artifact_rows, artifacts, audit, content, rows
from catchment.catalog.audit import Actor
from catchment.catalog.spec import check_name
from catchment.catalog.states import ModelState
from catchment.errors import NotFound
from catchment.jobs import namespaces
from catchment.registry.stored_layer import StoredLayer
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_files, model_versions

MANIFESTS = ("manifest", "referrer")
_table = model_versions.c


@dataclass(frozen=True)
class FoundBlob:
    """A blob of a repository.

    Attributes:
        bytes_of: the file that holds it, or the layer that is made from a version's files.
        version: that version.
    """

    digest: str
    size: int
    media_type: str
    bytes_of: Path | StoredLayer
    version: Row[Any] | None = None


@dataclass(frozen=True)
class FoundManifest:
    """A manifest, and the version that it is of."""

    digest: str
    media_type: str
    data: bytes
    version: Row[Any]


def require(store: Store, namespace: str, name: str) -> None:
    """Raises NotFound for an unknown namespace, InvalidField for what is no name of a model."""
    check_name(name)
    store.db.read(lambda tx: namespaces.require(tx, namespace))


def find_blob(store: Store, namespace: str, name: str, digest: str) -> FoundBlob:
    """A blob: a part of an artifact, an upload, or a version's file as it is. Raises NotFound."""

    def step(tx: Transaction) -> tuple[int, str, Row[Any] | None, list[rows.VersionFile]]:
        row = artifact_rows.find(tx, namespace, name, digest)
        if row is None:
            return _size_of_file(tx, namespace, name, digest), "", None, []
        if row.stored:
            return row.size_bytes, row.media_type, None, []
        version = rows.by_id(tx, row.version_id)
        if version.state != ModelState.READY:
            raise NotFound(f"the layer {digest} is of version {version.version!r}, which is {version.state}")
        return row.size_bytes, row.media_type, version, content.require_ready(tx, version)

    size, media_type, version, files = store.db.read(step)
    if version is None:
        return FoundBlob(digest, size, media_type, store.blobs.local_path(digest))
    return FoundBlob(digest, size, media_type, artifacts.layer_of(store, version, files), version)


def _size_of_file(tx: Transaction, namespace: str, name: str, digest: str) -> int:
    """Bytes of a file of one of the model's versions, which is a blob itself."""
    joined = model_files.join(model_versions, model_files.c.version_id == _table.id)
    mine = (_table.namespace == namespace) & (_table.name == name) & (_table.state == ModelState.READY)
    whole = (model_files.c.digest == digest) & model_files.c.layer.is_(None)
    found = tx.execute(select(model_files.c.size_bytes).select_from(joined).where(mine & whole).limit(1))
    size = found.scalar()
    if size is None:
        raise NotFound(f"the repository {namespace}/{name} has no blob {digest}")
    return int(size)


def version_of_tag(store: Store, namespace: str, name: str, tag: str) -> Row[Any]:
    """The ready version under a tag. Raises NotFound."""
    row = store.db.read(lambda tx: rows.require(tx, namespace, name, tag))
    if row.state != ModelState.READY:
        raise NotFound(f"version {tag!r} of model {name!r} is {row.state}, so it has no artifact")
    return row


def manifest_of(store: Store, row: Row[Any]) -> FoundManifest:
    """The manifest of a version that is described. Raises NotFound."""
    if row.manifest is None or (row.artifact or {}).get("held"):
        raise NotFound(f"the artifact of version {row.version!r} of model {row.name!r} is not kept here")
    return manifest_by_digest(store, row.namespace, row.name, row.manifest)


def manifest_by_digest(store: Store, namespace: str, name: str, digest: str) -> FoundManifest:
    """A manifest of a repository. Raises NotFound."""

    def step(tx: Transaction) -> tuple[Row[Any], Row[Any]]:
        row = artifact_rows.find(tx, namespace, name, digest)
        if row is None or row.kind not in MANIFESTS:
            raise NotFound(f"the repository {namespace}/{name} has no manifest {digest}")
        return row, rows.by_id(tx, row.version_id)

    row, version = store.db.read(step)
    return FoundManifest(digest, row.media_type, store.blobs.local_path(digest).read_bytes(), version)


def note_pull(store: Store, found: FoundManifest, actor: Actor) -> None:
    """Write down that somebody took a version's manifest."""
    store.db.write(lambda tx: audit.write(tx, found.version, "pull", actor, manifest=found.digest))


def tags(store: Store, namespace: str, name: str) -> list[str]:
    """All tags of a repository, in order.

    Raises:
        NotFound: nothing was ever pushed to it, and no version is ready.
    """
    mine = (_table.namespace == namespace) & (_table.name == name) & (_table.state == ModelState.READY)
    found = store.db.read(lambda tx: tx.execute(select(_table.version).where(mine)).scalars().all())
    if not found:
        raise NotFound(f"there is no repository {namespace}/{name}")
    return sorted(found)


def catalog(store: Store) -> list[str]:
    """All repositories with a tag, in order."""
    ready = select(_table.namespace, _table.name).where(_table.state == ModelState.READY).distinct()
    return sorted(f"{row.namespace}/{row.name}" for row in store.db.read(lambda tx: tx.execute(ready).all()))


def referrers(store: Store, namespace: str, name: str, digest: str) -> list[dict[str, Any]]:
    """Descriptors of what is attached to a manifest; none for a manifest that is not there."""

    def step(tx: Transaction) -> list[dict[str, Any]]:
        row = artifact_rows.find(tx, namespace, name, digest)
        if row is None or row.version_id is None:
            return []
        attached = (rows.by_id(tx, row.version_id).artifact or {}).get("referrers", [])
        return [each["descriptor"] for each in attached if each["subject"] == digest]

    return store.db.read(step)
