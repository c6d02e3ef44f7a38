"""What the manifest of a model artifact names: its config and its layers, as blobs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catchment.errors import BadArtifact, DigestMismatch
from catchment.models import documents
from catchment.models.documents import Tree

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_WHAT = "the manifest"


@dataclass(frozen=True)
class Blob:
    """Some bytes, as a manifest describes them."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Blob:
        """The description of these bytes."""
        return cls(media_type, digest_of(data), len(data))

    def check(self, data: bytes) -> None:
        """Raises DigestMismatch when the bytes are not those described."""
        if digest_of(data) != self.digest:
            raise DigestMismatch(self.digest, digest_of(data))

    def to_json(self) -> dict[str, Any]:
        """In the order of the specification's fields."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return value | ({"annotations": dict(sorted(self.annotations.items()))} if self.annotations else {})


@dataclass(frozen=True)
class Parts:
    """Config and layers of an image manifest."""

    config: Blob
    layers: tuple[Blob, ...]
    artifact_type: str = ""


def digest_of(data: bytes) -> str:
    """`sha256:<hex>` of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def read_parts(manifest: bytes) -> Parts:
    """What an image manifest names. Annotations and a subject of its own are passed over.

    Raises:
        BadArtifact: it is no image manifest.
    """
    value = documents.read_json(manifest, _WHAT)
    media_type = value.get("mediaType") or MANIFEST_TYPE
    if media_type != MANIFEST_TYPE:
        raise BadArtifact(f"{_WHAT} is {media_type!a}, a model's is {MANIFEST_TYPE}")
    if value.get("schemaVersion") != "2":
        raise BadArtifact(f"{_WHAT} has schemaVersion {value.get('schemaVersion')!a}, it must be 2")
    layers = value.get("layers")
    if not isinstance(layers, list):
        raise BadArtifact(f"{_WHAT}, field layers: must be a list")
    artifact_type = value.get("artifactType")
    return Parts(
        _blob(value.get("config"), "config"),
        tuple(_blob(each, f"layers.{number}") for number, each in enumerate(layers)),
        artifact_type if isinstance(artifact_type, str) else "",
    )


def _blob(value: Tree, where: str) -> Blob:
    fields = value if isinstance(value, dict) else {}
    media_type, digest, size = (fields.get(key) for key in ("mediaType", "digest", "size"))
    if not isinstance(media_type, str) or not media_type:
        raise BadArtifact(f"{_WHAT}, field {where}.mediaType: is missing")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise BadArtifact(f"{_WHAT}, field {where}.digest: must be sha256: and 64 hexadecimal digits")
    if not isinstance(size, str) or not re.fullmatch("[0-9]{1,18}", size):
        raise BadArtifact(f"{_WHAT}, field {where}.size: must be a number of bytes")
    annotations = fields.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(each, str) for each in annotations.values()):
        raise BadArtifact(f"{_WHAT}, field {where}.annotations: must be texts by name")
    return Blob(media_type, digest, int(size), {key: str(each) for key, each in annotations.items()})
