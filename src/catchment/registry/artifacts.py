"""Manifests and descriptors of artifacts (OCI image specification 1.1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catchment.errors import BadArtifact, DigestMismatch, InvalidField
from catchment.models import go_json
from catchment.registry.references import check_digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
MANIFEST_TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
"""What is asked for; registries convert to what is accepted, and then the digest is another one."""

MAX_MANIFEST_BYTES = 4 * 2**20
"""The distribution specification lets registries refuse larger manifests."""


def digest_of(data: bytes) -> str:
    """`sha256:<hex>` of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Descriptor:
    """What a manifest says about some bytes.

    Attributes:
        media_type: what they are.
        digest: `sha256:<64 hex digits>`.
        size: how many they are.
        annotations: words about them.
        artifact_type: of a manifest that is an artifact; in answers about referrers and in indexes.
    """

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Descriptor:
        """The description of these bytes."""
        return cls(media_type, digest_of(data), len(data))

    def check(self, data: bytes) -> None:
        """Raises DigestMismatch when the bytes are not those described."""
        if (actual := digest_of(data)) != self.digest:
            raise DigestMismatch(self.digest, actual)

    def to_json(self) -> dict[str, Any]:
        """Its JSON object, in the order of the specification's fields."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            value["annotations"] = dict(sorted(self.annotations.items()))
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        return value


@dataclass(frozen=True)
class Manifest:
    """An image manifest: a config and layers. What is empty is not written.

    With nothing but config and layers the bytes are those of the original client.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The manifest as it is stored."""
        parts = {"config": self.config.to_json(), "layers": [layer.to_json() for layer in self.layers]}
        return _written(self, parts)

    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, each digest once."""
        return tuple({blob.digest: blob for blob in (self.config, *self.layers)}.values())


@dataclass(frozen=True)
class Index:
    """A list of manifests."""

    manifests: tuple[Descriptor, ...]
    media_type: str = OCI_INDEX
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The index as it is stored."""
        return _written(self, {"manifests": [each.to_json() for each in self.manifests]})


def _written(whole: Manifest | Index, parts: dict[str, Any]) -> bytes:
    """JSON in the order of the specification's fields, with its parts in the middle."""
    value: dict[str, Any] = {"schemaVersion": 2}
    if whole.media_type:
        value["mediaType"] = whole.media_type
    if whole.artifact_type:
        value["artifactType"] = whole.artifact_type
    value |= parts
    if whole.subject:
        value["subject"] = whole.subject.to_json()
    if whole.annotations:
        value["annotations"] = dict(sorted(whole.annotations.items()))
    return go_json.encode(value)


@dataclass(frozen=True)
class StoredManifest:
    """A manifest's bytes exactly as the registry gave them; only these have the digest."""

    data: bytes
    media_type: str
    digest: str

    def descriptor(self) -> Descriptor:
        """What others say about it."""
        return Descriptor(self.media_type, self.digest, len(self.data))

    def parsed(self) -> Manifest | Index:
        """The manifest or index. Raises InvalidField when it is none."""
        return read_manifest(self.data, self.media_type)


def read_manifest(data: bytes, media_type: str = "", *, most: int = MAX_MANIFEST_BYTES) -> Manifest | Index:
    """A manifest or index, from its bytes.

    Args:
        data: the JSON.
        media_type: what came with it; empty: its own field says it, else its shape.
        most: largest size.

    Raises:
        InvalidField: it is no JSON, or a field of it is missing or wrong.
    """
    value = _object(_json(data, most), "manifest")
    given = _text(value, "mediaType", "manifest")
    media_type = given or media_type or (OCI_INDEX if "manifests" in value else OCI_MANIFEST)
    artifact_type = _text(value, "artifactType", "manifest")
    subject = _descriptor(value["subject"], "manifest.subject") if value.get("subject") else None
    annotations = _annotations(value, "manifest")
    if media_type in INDEX_TYPES:
        manifests = _descriptors(value, "manifests")
        return Index(manifests, media_type, artifact_type, subject, annotations)
    if media_type not in MANIFEST_TYPES:
        raise InvalidField("manifest.mediaType", f"{media_type!r} is none of {', '.join(MANIFEST_TYPES)}")
    config = _descriptor(value.get("config"), "manifest.config")
    return Manifest(config, _descriptors(value, "layers"), given, artifact_type, subject, annotations)


def read_model_manifest(data: bytes) -> Manifest:
    """The image manifest that a model's artifact must have.

    Raises:
        BadArtifact: it is none.
    """
    try:
        found = read_manifest(data)
    except InvalidField as error:
        raise BadArtifact(str(error)) from None
    kind = found.media_type or OCI_MANIFEST
    if not isinstance(found, Manifest) or kind != OCI_MANIFEST:
        raise BadArtifact(f"manifest.mediaType: is {kind!a}, a model's is {OCI_MANIFEST}")
    version = json.loads(data).get("schemaVersion")
    if version != 2:
        raise BadArtifact(f"manifest.schemaVersion: is {version!a}, it must be 2")
    for blob in found.blobs():
        if not blob.media_type:
            raise BadArtifact(f"manifest: {blob.digest} is named without a mediaType")
    return found


def media_type_of(data: bytes) -> str:
    """The media type that a manifest's bytes have. Raises InvalidField as `read_manifest` does."""
    found = read_manifest(data)
    return found.media_type or OCI_MANIFEST


def _json(data: bytes, most: int) -> object:
    if len(data) > most:
        raise InvalidField("manifest", f"has {len(data)} bytes, at most {most} are allowed")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidField("manifest", "is no JSON") from None


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidField(where, "must be a JSON object")
    return value


def _text(value: dict[str, Any], key: str, where: str) -> str:
    found = value.get(key)
    if not isinstance(found, str | None):
        raise InvalidField(f"{where}.{key}", "must be a string")
    return found or ""


def _descriptors(value: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    found = value.get(key)
    found = [] if found is None else found
    if not isinstance(found, list):
        raise InvalidField(f"manifest.{key}", "must be a list of descriptors")
    return tuple(_descriptor(each, f"manifest.{key}[{n}]") for n, each in enumerate(found))


def _descriptor(value: object, where: str) -> Descriptor:
    found = _object(value, where)
    size = found.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidField(f"{where}.size", "must be a number of bytes")
    digest = check_digest(_text(found, "digest", where), field=f"{where}.digest")
    annotations = _annotations(found, where)
    return Descriptor(
        _text(found, "mediaType", where), digest, size, annotations, _text(found, "artifactType", where)
    )


def _annotations(value: dict[str, Any], where: str) -> dict[str, str]:
    found = _object(value.get("annotations") or {}, f"{where}.annotations")
    for key, words in found.items():
        if not isinstance(words, str):
            raise InvalidField(f"{where}.annotations.{key}", "must be a string")
    return found
