"""Protobuf's wire format written by hand, for samples that no installed framework writes."""

from __future__ import annotations

import struct

Value = int | bytes | str | list["Field"]
Field = tuple[int, Value]


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(*fields: Field) -> bytes:
    """The bytes of a message: numbers become varints, texts and bytes spans, lists messages."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
            continue
        data = (
            message(*value)
            if isinstance(value, list)
            else value.encode()
            if isinstance(value, str)
            else value
        )
        out += varint(number << 3 | 2) + varint(len(data)) + data
    return bytes(out)


def floats(*values: float) -> bytes:
    """Packed floats."""
    return struct.pack(f"<{len(values)}f", *values)


def packed(*values: int) -> bytes:
    """Packed varints."""
    return b"".join(varint(value) for value in values)
