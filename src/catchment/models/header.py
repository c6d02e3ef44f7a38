"""The header of a safetensors file: read strictly, written with aligned data.

A file is 8 bytes (length N of the header, little-endian), N bytes of JSON, then the tensors' values, which
the header's offsets must cover without hole or overlap.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catchment.errors import BadTensors
from catchment.models.signature import STORED_DTYPES, Signature, TensorInfo

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
MAX_DIMENSIONS = 32
MAX_ELEMENTS = 2**59
METADATA_KEY = "__metadata__"
CACHED_BYTES = 1 << 16
"""Headers up to this size are parsed once while they are seen again and again."""


@dataclass(frozen=True)
class Header:
    """What a tensor file's header says.

    Attributes:
        signature: in the header's order.
        offsets: name -> first byte of the values, counted from the start of the file.
        metadata: free text pairs.
    """

    signature: Signature
    offsets: dict[str, int]
    metadata: dict[str, str]


def render_header(signature: Signature, metadata: Mapping[str, str]) -> bytes:
    """The bytes before the values of a file that holds `signature`'s tensors in their order."""
    entries: dict[str, Any] = {METADATA_KEY: dict(metadata)} if metadata else {}
    begin = 0
    for name, info in signature.items():
        if name == METADATA_KEY:
            raise BadTensors(f"a tensor cannot be named '{METADATA_KEY}'")
        if info.dtype not in STORED_DTYPES:
            raise BadTensors(f"tensor '{name}': unknown dtype {info.dtype}")
        end = begin + info.size_bytes
        entries[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise BadTensors(f"the header of {len(signature)} tensors would be {len(text)} bytes long")
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def header_bytes(first: bytes, size_bytes: int) -> int:
    """Length of the JSON header, from a file's first 8 bytes and its size.

    Raises:
        BadTensors: the file is too short, or the length cannot be right.
    """
    if len(first) < LENGTH_BYTES:
        raise BadTensors(f"not a safetensors file: only {size_bytes} bytes long")
    length = int.from_bytes(first, "little")
    if length > min(MAX_HEADER_BYTES, size_bytes - LENGTH_BYTES):
        raise BadTensors(f"not a safetensors file: a header of {length} bytes in a file of {size_bytes}")
    return length


def parse_header(text: bytes, size_bytes: int) -> Header:
    """The validated header of a file of `size_bytes`.

    Raises:
        BadTensors: the header is no JSON object of tensors, or does not describe the file's values exactly.
    """
    if len(text) > CACHED_BYTES:
        return _parsed(text, size_bytes)
    known = _parsed_before(text, size_bytes)
    return Header(dict(known.signature), known.offsets, dict(known.metadata))


def _parsed(text: bytes, size_bytes: int) -> Header:
    entries = _json_object(text)
    metadata = _metadata(entries.pop(METADATA_KEY, {}))
    parsed = {name: _entry(name, entry) for name, entry in entries.items()}
    start = LENGTH_BYTES + len(text)
    _check_coverage({name: span for name, (_, span) in parsed.items()}, size_bytes - start)
    return Header(
        signature={name: info for name, (info, _) in parsed.items()},
        offsets={name: start + span[0] for name, (_, span) in parsed.items()},
        metadata=metadata,
    )


_parsed_before = functools.lru_cache(maxsize=64)(_parsed)
"""The updates of a round all have one header."""


def _json_object(text: bytes) -> dict[str, Any]:
    if not text.startswith(b"{"):
        raise BadTensors("not a safetensors file: the header is not a JSON object")
    try:
        # What begins with a brace and parses is an object.
        entries: dict[str, Any] = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise BadTensors(f"not a safetensors file: the header is not valid JSON ({error})") from None
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadTensors(f"the header names '{twice}' twice")
    return entries


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise BadTensors(f"{METADATA_KEY} of the header must map text to text")
    return value


def _entry(name: str, entry: Any) -> tuple[TensorInfo, tuple[int, int]]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise BadTensors(f"tensor '{name}': the header must give dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in STORED_DTYPES:
        raise BadTensors(f"tensor '{name}': dtype {dtype} is not supported")
    if not _are_sizes(shape):
        raise BadTensors(f"tensor '{name}': the shape must be a list of integers >= 0")
    # Beside a zero any other size would pass the check of the bytes, and no array has such a shape.
    if len(shape) > MAX_DIMENSIONS or math.prod(size for size in shape if size) > MAX_ELEMENTS:
        raise BadTensors(f"tensor '{name}': the shape {shape[:MAX_DIMENSIONS]} is too large")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise BadTensors(f"tensor '{name}': data_offsets must be two integers >= 0")
    info = TensorInfo(dtype, tuple(shape))
    if offsets[1] - offsets[0] != info.size_bytes:
        raise BadTensors(f"tensor '{name}': {offsets[1] - offsets[0]} bytes for {info}")
    return info, (offsets[0], offsets[1])


def _are_sizes(value: Any) -> bool:
    # bool is an int to Python, and no size.
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_coverage(spans: dict[str, tuple[int, int]], data_bytes: int) -> None:
    position = 0
    for name, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        if begin != position:
            raise BadTensors(f"tensor '{name}' begins at byte {begin} of the values, expected was {position}")
        position = end
    if position != data_bytes:
        raise BadTensors(f"the header describes {position} bytes of values, the file holds {data_bytes}")
