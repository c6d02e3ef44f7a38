"""Writing the protobuf wire format: fields as bytes, joined by whoever writes a message."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from catchment.formats.protobuf import BYTES, FIXED32, VARINT


def varint(value: int) -> bytes:
    """A number as a varint; negative ones as 64-bit two's complement."""
    value &= 0xFFFFFFFFFFFFFFFF
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def integer(number: int, value: int) -> bytes:
    """A field of an integer, enum or bool."""
    return varint(number << 3 | VARINT) + varint(value)


def content(number: int, value: bytes | str) -> bytes:
    """A field of bytes, text, or a nested message."""
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | BYTES) + varint(len(data)) + data


def real(number: int, value: float) -> bytes:
    """A field of a float."""
    return varint(number << 3 | FIXED32) + struct.pack("<f", value)


def packed_reals(number: int, values: np.ndarray) -> bytes:
    """A repeated float field, packed."""
    return content(number, np.ascontiguousarray(values, "<f4").tobytes())


def single_reals(number: int, values: np.ndarray) -> bytes:
    """A repeated float field of a message that is declared without packing; `number` is below 16."""
    pairs = np.empty(values.size, np.dtype([("tag", "u1"), ("value", "<f4")]))
    pairs["tag"], pairs["value"] = number << 3 | FIXED32, np.ravel(values)
    return pairs.tobytes()


def single_integers(number: int, values: Sequence[int]) -> bytes:
    """A repeated integer field without packing."""
    return b"".join(integer(number, int(value)) for value in values)
