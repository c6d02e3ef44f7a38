"""Small artifacts for tests."""

from __future__ import annotations

from catchment.registry.artifacts import OCI_MANIFEST, Descriptor, Manifest, digest_of
from catchment.registry.backend import Registry, bytes_source

CONFIG_TYPE = "application/vnd.caicloud.model.config.v1alpha1+json"
LAYER_TYPE = "application/tar+gzip"


def put_blob(registry: Registry, repository: str, data: bytes, media_type: str = LAYER_TYPE) -> Descriptor:
    """Store bytes; their descriptor."""
    digest = digest_of(data)
    registry.write_blob(repository, digest, len(data), bytes_source(data))
    return Descriptor(media_type, digest, len(data))


def put_artifact(
    registry: Registry,
    repository: str,
    tag: str = "v1",
    layers: tuple[bytes, ...] = (b"layer",),
    subject: Descriptor | None = None,
    artifact_type: str = "",
) -> Descriptor:
    """Store config, layers and manifest; the manifest's descriptor."""
    config = put_blob(registry, repository, b'{"format":"ONNX"}', CONFIG_TYPE)
    made = Manifest(
        config,
        tuple(put_blob(registry, repository, layer) for layer in layers),
        media_type=OCI_MANIFEST if subject or artifact_type else "",
        subject=subject,
        artifact_type=artifact_type,
    )
    return registry.put_manifest(repository, made.to_bytes(), OCI_MANIFEST, tag)


def read_blob(registry: Registry, repository: str, digest: str, start: int = 0) -> bytes:
    """All bytes of a blob from an offset."""
    with registry.read_blob(repository, digest, start) as reader:
        return b"".join(bytes(chunk) for chunk in reader)
