"""Protobuf's wire format, walked in place without a schema: what is not asked for is skipped and never read.

A field is a tag (number and kind) and a value: kind 0 a varint, 1 eight bytes, 2 a length and so many bytes,
5 four bytes (protobuf.dev, "Encoding"). Groups (3 and 4) are used by no model format. Standard library only,
for readers that must be light; repeated floats are in `protobuf_reals`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_TEXT_BYTES = 64 * 1024
MAX_DEPTH = 60
"""Of messages in messages; protobuf itself stops at 100."""

_FIXED = {FIXED64: 8, FIXED32: 4}
_LARGE = 128 * 1024
"""Around each byte that is read the kernel maps up to some megabytes of a file that it has cached."""
_SIGN = 2**63

Buffer: TypeAlias = bytes | mmap.mmap | memoryview


class Broken(ValueError):
    """Bytes that are no protobuf message; whoever reads a file says which file in an error of its own."""


class Message:
    """A span of bytes that is taken for a message, a text or packed numbers, as the caller knows it to be."""

    __slots__ = ("_begin", "_data", "_end")

    def __init__(self, data: Buffer, begin: int = 0, end: int | None = None) -> None:
        self._data = data
        self._begin = begin
        self._end = len(data) if end is None else end

    def __len__(self) -> int:
        return self._end - self._begin

    def __iter__(self) -> Iterator[tuple[int, int | Message]]:
        """Number and value of each field, in the file's order.

        Raises:
            Broken: the bytes are no message.
        """
        data, at, end = self._data, self._begin, self._end
        while at < end:
            tag = data[at]
            at += 1
            if tag & 0x80:
                tag, at = self._varint(at - 1)
            number, kind = tag >> 3, tag & 7
            if not number:
                raise Broken(f"a field before byte {at} has the number 0")
            if kind == BYTES:
                length, at = self._varint(at)
                begin, at = at, at + length
                self._check(at)
                if length > _LARGE and isinstance(data, mmap.mmap):
                    data.madvise(mmap.MADV_DONTNEED)  # what was passed by need not stay in memory
                yield number, Message(data, begin, at)
            elif kind == VARINT:
                value, at = self._varint(at)
                yield number, value
            elif kind in _FIXED:
                begin, at = at, at + _FIXED[kind]
                self._check(at)
                yield number, Message(data, begin, at)
            else:
                raise Broken(f"a field before byte {at} is of kind {kind}")

    def spans(self) -> Iterator[tuple[int, int | Message, memoryview]]:
        """As iterating, with each field's bytes as they stand, for whoever writes them again.

        Raises:
            Broken: the bytes are no message.
        """
        data, at, end = self._data, self._begin, self._end
        whole = memoryview(data)
        while at < end:
            begin = at
            tag, at = self._varint(at)
            number, kind = tag >> 3, tag & 7
            value: int | Message = 0
            if kind == VARINT:
                value, at = self._varint(at)
            elif kind == BYTES:
                size, at = self._varint(at)
                self._check(at + size)
                value = Message(data, at, at + size)
                at += size
            elif kind in _FIXED:
                self._check(at + _FIXED[kind])
                value = Message(data, at, at + _FIXED[kind])
                at += _FIXED[kind]
            if not number or kind not in (VARINT, BYTES, *_FIXED):
                raise Broken(f"a field before byte {at} is of no known kind")
            yield number, value, whole[begin:at]

    def view(self) -> memoryview:
        """The bytes, without a copy."""
        return memoryview(self._data)[self._begin : self._end]

    def behind(self, inner: Message, more: int = 0) -> Message:
        """The rest of this message behind one of its fields, and behind `more` bytes."""
        return Message(self._data, inner._end + more, self._end)

    def text(self) -> str:
        """The bytes as text; what is no UTF-8 is replaced."""
        if len(self) > MAX_TEXT_BYTES:
            raise Broken(f"a name has {len(self)} bytes")
        return bytes(self._data[self._begin : self._end]).decode("utf-8", "replace")

    def packed(self, max_numbers: int = 1024) -> Iterator[int]:
        """The bytes as varints, one behind the other."""
        at = self._begin
        while at < self._end:
            value, at = self._varint(at)
            max_numbers -= 1
            if max_numbers < 0:
                raise Broken("a list holds far more numbers than it may")
            yield value

    def _varint(self, at: int) -> tuple[int, int]:
        data, end, value = self._data, self._end, 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, at
        raise Broken(f"a number before byte {at} does not end")

    def _check(self, end: int) -> None:
        if end > self._end:
            raise Broken(f"a field ends {end - self._end} bytes behind what holds it")


def mapped(path: Path) -> memoryview:
    """The file's bytes, mapped: only what is looked at is read from disk.

    Raises:
        Broken: the file is empty.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise Broken("the file is empty")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def message(value: int | Message) -> Message:
    """The value, which must have bytes. Raises Broken."""
    if isinstance(value, int):
        raise Broken("a field holds a number where a message belongs")
    return value


def text(value: int | Message) -> str:
    """The value, which must be text; for people. Raises Broken."""
    return message(value).text()


def exact_text(value: int | Message) -> str:
    """The value, which must be text that is exactly what was meant. Raises Broken."""
    return decoded(message(value).view())


def decoded(data: memoryview) -> str:
    """Bytes as text. Raises Broken where they are no UTF-8."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise Broken("a name is no UTF-8 text") from None


def signed(value: int | Message) -> int:
    """The value, which must be an int64 or int32. Raises Broken."""
    if not isinstance(value, int):
        raise Broken("a field holds bytes where a number belongs")
    return value - 2 * _SIGN if value >= _SIGN else value


def numbers(value: int | Message, max_numbers: int = 1024) -> Iterator[int]:
    """One or several int64: repeated fields come packed or one by one. Raises Broken."""
    if isinstance(value, int):
        yield signed(value)
    else:
        for each in value.packed(max_numbers):
            yield signed(each)


def first(holder: Message, number: int) -> int | Message | None:
    """The first field of this number; None where there is none."""
    return next((value for found, value in holder if found == number), None)


def pair(holder: Message) -> tuple[str, Message | None]:
    """Key and value of one entry of a map that has texts as keys and messages as values."""
    key, found = "", None
    for number, value in holder:
        if number == 1:
            key = text(value)
        elif number == 2:
            found = message(value)
    return key, found
