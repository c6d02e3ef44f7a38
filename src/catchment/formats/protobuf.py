"""The protobuf wire format (protobuf.dev, "Encoding"), read from a memory map without schema or copies."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}

Field = tuple[int, int, int, memoryview]
"""Number, wire type, value of a varint (else 0), bytes of everything else (else empty)."""

_EMPTY = memoryview(b"")


class Broken(ValueError):
    """Bytes that are no protobuf message; whoever reads a file says which file in an error of its own."""


def mapped(path: Path) -> memoryview:
    """The file's bytes, mapped: only what is looked at is read from disk.

    Raises:
        Broken: the file is empty.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise Broken("the file is empty")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The unsigned varint at `at`, and where the next byte is.

    Raises:
        Broken: it is cut off, or longer than 64 bits.
    """
    value = 0
    for count, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at + count + 1
    raise Broken(f"a number at byte {at} is cut off or too long")


def fields(data: memoryview) -> Iterator[Field]:
    """The fields of one message, in their order; nested messages are memoryviews to read in turn.

    Raises:
        Broken: a length leads beyond the message, or the wire type is none (no model format uses groups).
    """
    at, end = 0, len(data)
    while at < end:
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise Broken(f"field number 0 before byte {at}")
        if kind == VARINT:
            value, at = varint(data, at)
            yield number, kind, value, _EMPTY
            continue
        if kind == BYTES:
            size, at = varint(data, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise Broken(f"wire type {kind} before byte {at}")
        if size > end - at:
            raise Broken(f"field {number} claims {size} bytes, {end - at} are left")
        yield number, kind, 0, data[at : at + size]
        at += size


def signed(value: int) -> int:
    """A varint as int64 or int32: negative numbers are written as 64-bit two's complement."""
    return value - (1 << 64) if value >> 63 else value


def text(data: memoryview) -> str:
    """A string field.

    Raises:
        Broken: it is no UTF-8.
    """
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise Broken("a name is no UTF-8 text") from None


def integers(kind: int, value: int, data: memoryview) -> list[int]:
    """One occurrence of a repeated int field: a single value, or a packed run of them.

    Raises:
        Broken: a number is cut off, or the field is no integer.
    """
    if kind == VARINT:
        return [signed(value)]
    if kind != BYTES:
        raise Broken("an integer has the wire type of something else")
    found, at = [], 0
    while at < len(data):
        each, at = varint(data, at)
        found.append(signed(each))
    return found


def numbers(data: memoryview, number: int, dtype: str) -> np.ndarray:
    """All values of one repeated fixed-width field of a message, packed or one by one.

    Args:
        data: the message.
        number: the field, at most 15 for values that are written one by one.
        dtype: '<f4' or '<f8', as the field is declared.

    Raises:
        Broken: the message is none, or a run does not divide into values.
    """
    width = np.dtype(dtype).itemsize
    single = FIXED32 if width == 4 else FIXED64
    parts: list[np.ndarray] = []
    rest = data
    while len(rest):
        ran = _run(rest, number << 3 | single, dtype) if number < 16 else None
        if ran is not None:
            parts.append(ran)
            rest = rest[len(ran) * (width + 1) :]
            continue
        found, kind, _, content = next(fields(rest))
        if found == number:
            if kind not in {single, BYTES} or len(content) % width:
                raise Broken(f"field {number} holds no {dtype} values")
            parts.append(np.frombuffer(content, dtype))
        rest = rest[_size(rest, content) :]
    return np.concatenate(parts) if len(parts) > 1 else parts[0] if parts else np.zeros(0, dtype)


def _run(data: memoryview, tag: int, dtype: str) -> np.ndarray | None:
    """The values that `data` begins with, written one by one as (tag, value) pairs; None without any."""
    if data[0] != tag:
        return None
    pair = np.dtype([("tag", "u1"), ("value", dtype)])
    most, looked = len(data) // pair.itemsize, 64
    while True:  # a window that doubles: a short run must not cost a look at the whole file
        pairs = np.frombuffer(data, pair, min(looked, most))
        others = np.flatnonzero(pairs["tag"] != tag)
        if len(others) or len(pairs) == most:
            break
        looked *= 2
    if not most:
        raise Broken("a value is cut off")
    return pairs["value"][: others[0] if len(others) else most]


def _size(data: memoryview, content: memoryview) -> int:
    """How many bytes the first field of `data` takes; `content` is what `fields` gave for it."""
    key, at = varint(data, 0)
    if key & 7 == VARINT:
        return varint(data, at)[1]
    if key & 7 == BYTES:
        at = varint(data, at)[1]
    return at + len(content)
