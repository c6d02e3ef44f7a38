"""Model artifacts in the form of CNCF ModelPack, and of the drafts before it (`vnd.cnai`).

A layer is a file as it is, so that its digest is the file's and nothing is packed or stored twice. What
ModelPack has no field for travels in a file `ormbfile.yaml` beside the model's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from catchment.errors import BadArtifact
from catchment.models import config as configs
from catchment.models import documents, go_json, times
from catchment.models.config import ORMBFILE, ModelConfig
from catchment.models.documents import Tree
from catchment.models.files import MODEL_FOLDER, ModelFile, plain_name
from catchment.models.folders import inside_model
from catchment.models.spans import BytesSource
from catchment.registry.artifacts import (
    MAX_MANIFEST_BYTES,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    digest_of,
    read_model_manifest,
)
from catchment.registry.modelpack_layers import (
    FILE_METADATA,
    FILE_PATH,
    PREFIX,
    PackLayer,
    media_type,
    read_pack_layer,
    role_of,
)

ARTIFACT_TYPE = f"{PREFIX}manifest.v1+json"
CONFIG_TYPE = f"{PREFIX}config.v1+json"
_CONFIG_TYPES = re.compile(r"application/vnd\.(cncf|cnai)\.model\.config\.v1\+json")
_WHAT = "the ModelPack config"


@dataclass(frozen=True)
class PackArtifact:
    """An artifact without its layers' bytes.

    Attributes:
        manifest: its bytes; their digest is the artifact's.
        config_blob: bytes of the config.
        config: as much of a model's config as ModelPack knows; a layer named `ormbfile.yaml` says the rest.
        layers: in the manifest's order.
    """

    manifest: bytes
    config_blob: bytes
    config: ModelConfig
    layers: tuple[PackLayer, ...]

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the manifest."""
        return digest_of(self.manifest)


def pack_files(config: ModelConfig, files: Iterable[ModelFile]) -> list[ModelFile]:
    """The files that become layers, named as in the artifact: the description, then the model's, without
    `model/`.

    Raises:
        BadArtifact: a file lies outside of `model/`, has no digest, or bears the description's name.
    """
    described = config.to_yaml()
    packed = [ModelFile(ORMBFILE, len(described), BytesSource(described), digest=digest_of(described))]
    for file in files:
        name = inside_model(file.name)
        if not name or name == ORMBFILE or not file.digest:
            raise BadArtifact(
                f"{file.name!a} is no file of a model with a digest, or bears a name that is taken"
            )
        packed.append(ModelFile(name, file.size, file.source, file.digest, file.crc32, file.mode, file.mtime))
    return packed


def make_artifact(
    config: ModelConfig, files: Sequence[ModelFile], *, name: str = "", version: str = ""
) -> PackArtifact:
    """The artifact of a config and of files, each a raw layer.

    Args:
        config: what ModelPack's config can say of it is said there.
        files: as `pack_files` gives them.
        name: of the model.
        version: of the model.

    Raises:
        BadArtifact: there are more files than a manifest can name in the 4 MiB that registries take.
    """
    blob = go_json.encode(_config(config, files, name, version))
    layers = tuple(_raw_layer(file) for file in files)
    described = Descriptor.of(CONFIG_TYPE, blob)
    manifest = Manifest(described, layers, OCI_MANIFEST, ARTIFACT_TYPE).to_bytes()
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise BadArtifact(f"{len(files)} files are too many for one manifest; the ORMB form takes them")
    return PackArtifact(manifest, blob, config, tuple(read_pack_layer(layer) for layer in layers))


def is_modelpack(parts: Manifest) -> bool:
    """Whether the config's media type says that it is of this form, or of a draft of it."""
    return _CONFIG_TYPES.fullmatch(parts.config.media_type) is not None


def read_artifact(manifest: bytes, config_blob: bytes) -> PackArtifact:
    """The artifact that these bytes are.

    Raises:
        BadArtifact: it is of another form, or a layer is of no known kind or has no name.
        DigestMismatch: the config is not the one that the manifest names.
    """
    parts = read_model_manifest(manifest)
    if not is_modelpack(parts):
        raise BadArtifact(f"the config is {parts.config.media_type}, a ModelPack's is {CONFIG_TYPE}")
    parts.config.check(config_blob)
    layers = tuple(read_pack_layer(layer) for layer in parts.layers)
    if not layers:
        raise BadArtifact("the manifest names no layer, a ModelPack has one for each file")
    return PackArtifact(manifest, config_blob, _read_config(config_blob), layers)


def model_name(path: str) -> str:
    """Where a file of an artifact lies in a model version: `ormbfile.yaml` at the top, all else below
    `model/`.

    Raises:
        BadArtifact: it leads out.
    """
    name = plain_name(path)
    return name if name == ORMBFILE else f"{MODEL_FOLDER}/{name}"


def _raw_layer(file: ModelFile) -> Descriptor:
    metadata = {
        "name": file.name.rpartition("/")[2],
        "mode": file.mode,
        "uid": 0,
        "gid": 0,
        "size": file.size,
        "mtime": times.from_seconds(file.mtime),
        "typeflag": ord("0"),
    }
    annotations = {FILE_METADATA: go_json.encode(metadata).decode(), FILE_PATH: file.name}
    return Descriptor(media_type(role_of(file.name)), file.digest, file.size, annotations)


def _config(config: ModelConfig, files: Sequence[ModelFile], name: str, version: str) -> dict[str, Any]:
    git = config.training.git if config.training else None
    dataset = config.dataset.git.repository if config.dataset else ""
    descriptor = {
        "createdAt": "" if config.created == times.UNSET else config.created,
        "authors": [config.author] if config.author else [],
        "name": name,
        "sourceURL": git.repository if git else "",
        "datasetsURL": [dataset] if dataset else [],
        "version": version,
        "revision": git.revision if git else "",
        "description": config.description,
    }
    return {
        "descriptor": {key: value for key, value in descriptor.items() if value},
        "modelfs": {"type": "layers", "diffIds": [file.digest for file in files]},
        "config": {"format": config.format} if config.format else {},
    }


def _read_config(blob: bytes) -> ModelConfig:
    value = documents.read_json(blob, _WHAT)
    descriptor, technical = _object(value, "descriptor"), _object(value, "config")
    authors = descriptor.get("authors") or []
    if not isinstance(authors, list):
        raise BadArtifact(f"{_WHAT}, field descriptor.authors: must be a list")
    source = {"repository": descriptor.get("sourceURL"), "revision": descriptor.get("revision")}
    tree: dict[str, Tree] = {
        "author": ", ".join(each for each in authors if isinstance(each, str)),
        "created": descriptor.get("createdAt"),
        "description": descriptor.get("description") or descriptor.get("title"),
        "format": technical.get("format"),
        "training": {"git": source} if any(source.values()) else None,
    }
    return configs.from_tree(tree, _WHAT)


def _object(value: dict[str, Tree], key: str) -> dict[str, Tree]:
    found = value.get(key) or {}
    if not isinstance(found, dict):
        raise BadArtifact(f"{_WHAT}, field {key}: must be an object")
    return found
