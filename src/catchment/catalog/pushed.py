"""What a pushed manifest is: its form, what it says of the model, and which files its layers hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isal import isal_zlib
from sqlalchemy import select

from catchment.catalog import repositories, rows
from catchment.catalog.repositories import FoundBlob
from catchment.catalog.rows import VersionFile
from catchment.errors import BadArtifact, BlobsMissing, NotFound
from catchment.models import config as configs
from catchment.models import documents, formats
from catchment.models.config import ORMBFILE, ModelConfig
from catchment.models.files import Limits, Names
from catchment.models.folders import inside_model
from catchment.models.spans import FileSource
from catchment.registry import modelpack, ormb
from catchment.registry.artifacts import OCI_MANIFEST, Descriptor, digest_of, read_model_manifest
from catchment.registry.artifacts import Manifest as Parts
from catchment.registry.layer_reading import read_layer
from catchment.registry.unpacking import Packing
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_files, model_versions

MAX_MANIFEST_BYTES = 4 * 2**20
RUNTIMES = {"torch": "pytorch", "tensorflow": "keras", "tf": "keras"}


@dataclass(frozen=True)
class Manifest:
    """A manifest before its blobs are looked at.

    Attributes:
        form: "ormb", "modelpack", or "" for what is no model.
        subject: digest of the manifest that this one is attached to.
    """

    data: bytes
    digest: str
    parts: Parts
    form: str
    subject: str | None
    annotations: dict[str, str]


@dataclass(frozen=True)
class Pushed:
    """A model, as its artifact says.

    Attributes:
        layer: facts of a layer that is made from the files (catalog.artifacts); None where layers are stored.
    """

    manifest: Manifest
    config: ModelConfig
    files: list[VersionFile]
    layer: dict[str, Any] | None = None


def read_manifest(data: bytes, media_type: str) -> Manifest:
    """A manifest as it was sent.

    Raises:
        BadArtifact: it is no image manifest, or announced as something else.
    """
    if media_type and media_type != OCI_MANIFEST:
        raise BadArtifact(f"manifests of {media_type[:80]!a} are not taken, only {OCI_MANIFEST}")
    parts = read_model_manifest(data)
    tree = documents.read_json(data, "the manifest")
    subject, noted = tree.get("subject"), tree.get("annotations")
    form = "ormb" if ormb.is_ormb(parts) else "modelpack" if modelpack.is_modelpack(parts) else ""
    return Manifest(
        data,
        digest_of(data),
        parts,
        form,
        str(subject.get("digest")) if isinstance(subject, dict) else None,
        {key: value for key, value in noted.items() if isinstance(value, str)}
        if isinstance(noted, dict)
        else {},
    )


def require_model(manifest: Manifest) -> None:
    """Raises BadArtifact for what is no model."""
    if not manifest.form:
        raise BadArtifact(
            f"the config is {manifest.parts.config.media_type[:100]!a}; this registry takes models: ORMB "
            f"({ormb.CONFIG_TYPE}) or CNCF ModelPack ({modelpack.CONFIG_TYPE}), and what is attached to them"
        )


def find_blobs(store: Store, repository: tuple[str, str], parts: Parts) -> dict[str, FoundBlob]:
    """The blobs that a manifest names, by digest.

    Raises:
        BlobsMissing: the repository does not have all of them.
        BadArtifact: one has another size than the manifest says.
    """
    found: dict[str, FoundBlob] = {}
    missing: list[str] = []
    for blob in (parts.config, *parts.layers):
        try:
            found[blob.digest] = repositories.find_blob(store, *repository, blob.digest)
        except NotFound:
            missing.append(blob.digest)
            continue
        if found[blob.digest].size != blob.size:
            told = f"{blob.digest} has {found[blob.digest].size} bytes, the manifest says {blob.size}"
            raise BadArtifact(told)
    if missing:
        raise BlobsMissing(missing)
    return found


def read_pushed(store: Store, manifest: Manifest, found: dict[str, FoundBlob], limits: Limits) -> Pushed:
    """Read the config and the layers of a model.

    Raises:
        BadArtifact: something of it is not as its form wants it, or is unsafe.
        DigestMismatch: the config is not the one that the manifest names.
    """
    require_model(manifest)
    config_blob = _small(found[manifest.parts.config.digest], documents.MAX_JSON_BYTES)
    read = _read_ormb if manifest.form == "ormb" else _read_modelpack
    pushed = read(store, manifest, config_blob, found, limits)
    if not pushed.files:
        raise BadArtifact("the artifact holds no file below model/")
    _check_texts(pushed.config)
    return pushed


def _read_ormb(
    store: Store, manifest: Manifest, config_blob: bytes, found: dict[str, FoundBlob], limits: Limits
) -> Pushed:
    artifact = ormb.read_artifact(manifest.data, config_blob)
    layer = found[artifact.layer.digest]
    if not isinstance(layer.bytes_of, Path):
        # An artifact of ours under another tag: its files are known, and nothing is stored for it.
        assert layer.version is not None  # noqa: S101 - what is made is made from a version's files
        version = layer.version
        files = store.db.read(lambda tx: rows.files_of(tx, [version.id]).get(version.id, []))
        return Pushed(manifest, artifact.config, files, version.artifact["layer"])
    known = store.db.read(lambda tx: _of_known_layer(tx, layer.digest))
    files = known or [
        VersionFile(path, digest, size, crc32, layer.digest)
        for name, digest, size, crc32 in _members(layer, limits, "gzip")
        if (path := inside_model(name))
    ]
    return Pushed(manifest, artifact.config, files)


def _of_known_layer(tx: Transaction, digest: str) -> list[VersionFile]:
    """The files of a version that has the same layer, so that it is not read again."""
    same = (model_files.c.layer == digest) & (model_versions.c.form == "ormb")
    joined = model_files.join(model_versions, model_files.c.version_id == model_versions.c.id)
    owner = tx.execute(select(model_versions.c.id).select_from(joined).where(same).limit(1)).scalar()
    return rows.files_of(tx, [owner])[owner] if owner is not None else []


def _read_modelpack(
    _store: Store, manifest: Manifest, config_blob: bytes, found: dict[str, FoundBlob], limits: Limits
) -> Pushed:
    artifact = modelpack.read_artifact(manifest.data, config_blob)
    config, names = artifact.config, Names()
    files: list[VersionFile] = []
    members: Iterator[tuple[str, str, int, int | None]]
    held: str | None
    for layer in artifact.layers:
        blob = found[layer.blob.digest]
        if layer.packing is not None:
            members, held = _members(blob, limits, layer.packing), blob.digest
        else:
            members, held = iter([(layer.path, blob.digest, blob.size, None)]), None
        for path_there, digest, size, crc32 in members:
            name = modelpack.model_name(path_there)
            names.add(name)
            if path := inside_model(name):
                files.append(VersionFile(path, digest, size, crc32, held))
            elif name == ORMBFILE and held is None:
                config = _described(blob, config)
    return Pushed(manifest, config, files)


def _described(blob: FoundBlob, config: ModelConfig) -> ModelConfig:
    """The config that travels as a file, which knows more than ModelPack's own."""
    told = configs.from_yaml(_small(blob, documents.MAX_YAML_BYTES))
    return told.model_copy(update={"format": told.format or config.format})


def _members(blob: FoundBlob, limits: Limits, packing: Packing) -> Iterator[tuple[str, str, int, int | None]]:
    """Name, digest, size and CRC-32 of each file of a packed layer."""
    if not isinstance(blob.bytes_of, Path):
        raise BadArtifact(f"{blob.digest} is no layer that could be read")
    for member in read_layer(FileSource(blob.bytes_of).read(0, blob.size), limits, packing):
        sha, crc = hashlib.sha256(), 0
        for piece in member.read():
            sha.update(piece)
            crc = isal_zlib.crc32(piece, crc)
        yield member.name, f"sha256:{sha.hexdigest()}", member.size, crc


def _small(blob: FoundBlob, most: int) -> bytes:
    if blob.size > most or not isinstance(blob.bytes_of, Path):
        raise BadArtifact(f"the config {blob.digest} has {blob.size} bytes, up to {most} are taken")
    return blob.bytes_of.read_bytes()


def _check_texts(config: ModelConfig) -> None:
    if b"\\u0000" in config.to_json():
        raise BadArtifact("the model's config contains a NUL character")
    if len(config.format) > 32:
        raise BadArtifact(f"the model's config, field format: {config.format[:60]!a} is no format")


def runtime_of(config: ModelConfig) -> str:
    """The runtime that a config's framework means, in the words that jobs use."""
    known = formats.FORMATS.get(config.format)
    told = (known.framework if known else "") or config.framework or config.format or "other"
    lowered = told.lower()[:64]
    return RUNTIMES.get(lowered, lowered)


def descriptor(manifest: Manifest) -> dict[str, Any]:
    """What a list of referrers says about a manifest."""
    kind = manifest.parts.artifact_type or manifest.parts.config.media_type
    told = Descriptor.of(OCI_MANIFEST, manifest.data).to_json() | {"artifactType": kind}
    return told | (
        {"annotations": dict(sorted(manifest.annotations.items()))} if manifest.annotations else {}
    )


def columns_of(pushed: Pushed) -> dict[str, Any]:
    """Columns of the version that an artifact becomes."""
    config = pushed.config
    return {
        "runtime": runtime_of(config),
        "format": config.format,
        "description": config.description[:10_000],
        "config": config.written(),
        "form": pushed.manifest.form,
        "manifest": pushed.manifest.digest,
    }
