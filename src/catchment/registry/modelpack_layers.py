"""Layers of ModelPack: what a media type says, and the annotations that name a layer's file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from catchment.errors import BadArtifact
from catchment.models import documents, times
from catchment.models.files import plain_name
from catchment.registry.artifacts import Descriptor
from catchment.registry.unpacking import Packing

PREFIX = "application/vnd.cncf.model."
FILE_PATH = "org.cncf.model.filepath"
FILE_METADATA = "org.cncf.model.file.metadata+json"
_PATHS = (FILE_PATH, "org.cnai.model.filepath", "org.opencontainers.image.title")
_METADATA = (FILE_METADATA, "org.cnai.model.file.metadata+json")

Role = Literal["weight", "weight.config", "doc", "code", "dataset"]
_TYPE = re.compile(
    r"application/vnd\.(?:cncf|cnai)\.model\."
    r"(?P<role>weight\.config|weight|doc|code|dataset|layer)\.v1(?:\.(?P<packing>[a-z0-9+]+))?"
)
_PACKINGS: dict[str, Packing] = {"tar": "tar", "tar+gzip": "gzip", "tar+zstd": "zstd"}
_MAX_FILE_METADATA_BYTES = 2**16

_CODE = re.compile(r".*\.(py|ipynb|sh|c|cc|cpp|cu|h|proto)", re.IGNORECASE)
_DOC = re.compile(r".*\.(md|rst|pdf|html)|(.*/)?(readme|license|licence|notice)[^/]*", re.IGNORECASE)
_SETTINGS = re.compile(
    r".*\.(json|ya?ml|toml|jinja|cfg|ini|pbtxt|prototxt|model|vocab)|(.*/)?(merges|vocab)\.txt", re.IGNORECASE
)


@dataclass(frozen=True)
class PackLayer:
    """A layer.

    Attributes:
        blob: its media type, digest and size.
        role: what its files are for.
        packing: None for a file as it is, else the archive's.
        path: the file's name; of an archive it names nothing that matters, since the archive has names
            itself.
        mode: permission bits of a file.
        mtime: of a file, seconds since 1970.
    """

    blob: Descriptor
    role: Role
    packing: Packing | None
    path: str
    mode: int = 0o644
    mtime: int = 0


def media_type(role: Role) -> str:
    """The media type of a file as it is."""
    return f"{PREFIX}{role}.v1.raw"


def role_of(name: str) -> Role:
    """What a file is for, going by its name; what is nothing else is weights."""
    if _SETTINGS.fullmatch(name):
        return "weight.config"
    if _CODE.fullmatch(name):
        return "code"
    return "doc" if _DOC.fullmatch(name) else "weight"


def read_pack_layer(blob: Descriptor) -> PackLayer:
    """What a manifest says about a layer.

    Raises:
        BadArtifact: its media type is none of ModelPack's, or it is a file without a name or with one that
            leads out.
    """
    found = _TYPE.fullmatch(blob.media_type)
    if found is None:
        raise BadArtifact(f"a layer is {blob.media_type!a}, which is no media type of ModelPack")
    role: Role = "weight" if found["role"] == "layer" else found["role"]  # type: ignore[assignment]
    # Some writers name the file's own format, as in weight.v1.gguf: it is a file as it is then.
    packing = _PACKINGS.get(found["packing"] or "raw")
    path = next((blob.annotations[key] for key in _PATHS if blob.annotations.get(key)), "")
    if packing is None:
        if not path:
            raise BadArtifact(f"the layer {blob.digest} is a file, but no annotation {FILE_PATH} names it")
        path = plain_name(path)
    mode, mtime = _file_metadata(blob)
    return PackLayer(blob, role, packing, path, mode, mtime)


def _file_metadata(blob: Descriptor) -> tuple[int, int]:
    """Mode and time, where they are said and make sense; they are for information."""
    told = next((blob.annotations[key] for key in _METADATA if blob.annotations.get(key)), "")
    if not told or len(told) > _MAX_FILE_METADATA_BYTES:
        return 0o644, 0
    fields = documents.read_json(told.encode(errors="replace"), "a layer's file metadata")
    mode, mtime = fields.get("mode"), fields.get("mtime")
    known_mode = int(mode) & 0o777 if isinstance(mode, str) and re.fullmatch("[0-9]{1,10}", mode) else 0o644
    try:
        moment = datetime.fromisoformat(times.canonical(str(mtime)))
    except ValueError:
        return known_mode, 0
    return known_mode, max(0, int(moment.timestamp()))
