"""Protobuf's wire format, walked in place: what is not asked for is skipped and never read.

A field is a tag (number and kind) and a value: kind 0 a varint, 1 eight bytes, 2 a length and so many bytes,
5 four bytes (protobuf.dev, "Encoding"). Groups (3 and 4) are used by no model format.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

from catchment.errors import ExtractionFailed
from catchment.formats.extract.folder import Buffer

MAX_TEXT_BYTES = 64 * 1024
MAX_DEPTH = 60
"""Of messages in messages; protobuf itself stops at 100."""

_FIXED = {1: 8, 5: 4}
_LARGE = 128 * 1024
"""Around each byte that is read the kernel maps up to some megabytes of a file that it has cached."""
_SIGN = 2**63


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
            ExtractionFailed: the bytes are no message.
        """
        data, at, end = self._data, self._begin, self._end
        while at < end:
            tag = data[at]
            at += 1
            if tag & 0x80:
                tag, at = self._varint(at - 1)
            number, kind = tag >> 3, tag & 7
            if not number:
                raise ExtractionFailed("the file is damaged: a protobuf field has the number 0")
            if kind == 2:
                length, at = self._varint(at)
                begin, at = at, at + length
                self._check(at)
                if length > _LARGE and isinstance(data, mmap.mmap):
                    data.madvise(mmap.MADV_DONTNEED)  # what was passed by need not stay in memory
                yield number, Message(data, begin, at)
            elif kind == 0:
                value, at = self._varint(at)
                yield number, value
            elif kind in _FIXED:
                begin, at = at, at + _FIXED[kind]
                self._check(at)
                yield number, Message(data, begin, at)
            else:
                raise ExtractionFailed(f"the file is damaged: a protobuf field of kind {kind}")

    def text(self) -> str:
        """The bytes as text."""
        if len(self) > MAX_TEXT_BYTES:
            raise ExtractionFailed(f"the file holds a name of {len(self)} bytes")
        return self._data[self._begin : self._end].decode("utf-8", "replace")

    def packed(self, max_numbers: int = 1024) -> Iterator[int]:
        """The bytes as varints, one behind the other."""
        at = self._begin
        while at < self._end:
            value, at = self._varint(at)
            max_numbers -= 1
            if max_numbers < 0:
                raise ExtractionFailed("the file holds a list of far more numbers than it may")
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
        raise ExtractionFailed("the file is damaged or cut off: a protobuf number does not end")

    def _check(self, end: int) -> None:
        if end > self._end:
            raise ExtractionFailed(
                f"the file is damaged or cut off: a field ends {end - self._end} bytes behind what holds it"
            )


def message(value: int | Message) -> Message:
    """The value, which must have bytes."""
    if isinstance(value, int):
        raise ExtractionFailed("the file is damaged: a protobuf field holds a number where a message belongs")
    return value


def text(value: int | Message) -> str:
    """The value, which must be text."""
    return message(value).text()


def signed(value: int | Message) -> int:
    """The value, which must be an int64."""
    if not isinstance(value, int):
        raise ExtractionFailed("the file is damaged: a protobuf field holds bytes where a number belongs")
    return value - 2 * _SIGN if value >= _SIGN else value


def numbers(value: int | Message) -> Iterator[int]:
    """One or several int64: repeated fields come packed or one by one."""
    if isinstance(value, int):
        yield signed(value)
    else:
        for each in value.packed():
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
