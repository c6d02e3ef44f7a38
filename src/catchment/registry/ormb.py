"""Model artifacts in the form of ORMB: config, one layer and manifest, to the byte as the original's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from catchment.errors import BadArtifact
from catchment.models import config as configs
from catchment.models.config import ModelConfig
from catchment.models.files import ModelFile
from catchment.registry.artifacts import Descriptor, Manifest, digest_of, read_model_manifest
from catchment.registry.layer import LAYER_TYPE

CONFIG_TYPE = "application/vnd.caicloud.model.config.v1alpha1+json"


@dataclass(frozen=True)
class OrmbArtifact:
    """An artifact without its layer's bytes.

    Attributes:
        manifest: its bytes; their digest is the artifact's.
        config_blob: bytes of the config.
        config: what they say.
        layer: digest and size of the layer.
    """

    manifest: bytes
    config_blob: bytes
    config: ModelConfig
    layer: Descriptor

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the manifest."""
        return digest_of(self.manifest)


def make_artifact(
    config: ModelConfig, files: Iterable[ModelFile], layer_digest: str, size: int
) -> OrmbArtifact:
    """The artifact of a config and a layer.

    Args:
        config: its `directory_structure` is replaced.
        files: in the layer's order.
        layer_digest: `sha256:<hex>` of the layer, a StoredLayer's or a written one's.
        size: bytes of the layer.
    """
    config = config.model_copy(update={"directory_structure": tuple(file.name for file in files)})
    blob = config.to_json()
    layer = Descriptor(LAYER_TYPE, layer_digest, size)
    manifest = Manifest(Descriptor.of(CONFIG_TYPE, blob), (layer,)).to_bytes()
    return OrmbArtifact(manifest, blob, config, layer)


def is_ormb(parts: Manifest) -> bool:
    """Whether the config's media type says that it is of this form."""
    return parts.config.media_type == CONFIG_TYPE


def read_artifact(manifest: bytes, config_blob: bytes) -> OrmbArtifact:
    """The artifact that these bytes are. A media type and annotations in the manifest do no harm.

    Raises:
        BadArtifact: it is of another form, or does not have exactly one layer of the right type, or the
            config cannot be read; these the original client refuses too.
        DigestMismatch: the config is not the one that the manifest names.
    """
    parts = read_model_manifest(manifest)
    if not is_ormb(parts):
        raise BadArtifact(f"the config is {parts.config.media_type}, an ORMB model's is {CONFIG_TYPE}")
    if len(parts.layers) != 1:
        raise BadArtifact(f"the manifest names {len(parts.layers)} layers, an ORMB model has exactly one")
    (layer,) = parts.layers
    if layer.media_type != LAYER_TYPE:
        raise BadArtifact(f"the layer is {layer.media_type}, an ORMB model's is {LAYER_TYPE}")
    parts.config.check(config_blob)
    return OrmbArtifact(manifest, config_blob, configs.from_json(config_blob), layer)
