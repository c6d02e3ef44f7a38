"""safetensors: names, shapes and types stand in a JSON header; the values are never read."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

from catchment.errors import ExtractionFailed
from catchment.formats.extract import dtypes
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import Extracted, count, shown, sizes
from catchment.formats.extract.tensors import listed

MAX_HEADER_BYTES = 16 * 2**20
"""The original allows 100 MB; a header of a million tensors has 100 MB, of a large model 1."""
_METADATA = "__metadata__"


def read(folder: ModelFolder) -> Extracted:
    """Tensors and metadata of all *.safetensors files, which may be parts of one model."""
    names = folder.all("*.safetensors")
    if not names:
        folder.one("*.safetensors")
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    metadata: dict[str, Any] = {}
    for name in names:
        with folder.opened(name) as file:
            header = _header(file, name)
        metadata |= header.pop(_METADATA, {})
        for tensor, entry in header.items():
            if tensor in tensors:
                raise ExtractionFailed(f"the tensor {shown(tensor)} is in several of the files")
            tensors[tensor] = entry
    return Extracted(
        "Safetensors",
        str(metadata.get("format", "")),
        parameters=count(shape for _, shape in tensors.values()),
        extras={**listed(tensors), **({"metadata": metadata} if metadata else {})},
        absent=("inputs, outputs and layers: the file holds tensors and no model",),
    )


def _header(file: BinaryIO, name: str) -> dict[str, Any]:
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise ExtractionFailed(f"{shown(name)} is no safetensors file: a header of {length} bytes in {size}")
    if length > MAX_HEADER_BYTES:
        raise ExtractionFailed(f"the header of {shown(name)} has {length} bytes, {MAX_HEADER_BYTES} are read")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise ExtractionFailed(f"the header of {shown(name)} is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise ExtractionFailed(f"the header of {shown(name)} is no JSON object")
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ExtractionFailed(f"{_METADATA} of {shown(name)} must map text to text")
    found = {tensor: _entry(tensor, entry, size - 8 - length) for tensor, entry in header.items()}
    return {_METADATA: metadata, **found}


def _entry(name: str, entry: Any, data_bytes: int) -> tuple[str, tuple[int, ...]]:
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        raise ExtractionFailed(f"the tensor {shown(name)} has no dtype")
    kind = dtypes.SAFETENSORS.get(entry["dtype"], "")
    if not kind:
        raise ExtractionFailed(f"the tensor {shown(name)} has the unknown dtype {shown(entry['dtype'])}")
    shape, offsets = sizes(entry.get("shape"), name), entry.get("data_offsets")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(each) is int for each in offsets):
        raise ExtractionFailed(f"data_offsets of the tensor {shown(name)} are no two numbers")
    bits, begin, end = dtypes.bits(kind), *offsets
    if not 0 <= begin <= end <= data_bytes or (bits and (end - begin) * 8 != count([shape]) * bits):
        raise ExtractionFailed(
            f"the tensor {shown(name)} of {kind}{list(shape)} has the bytes {begin} to {end} of {data_bytes}"
        )
    return kind, shape
