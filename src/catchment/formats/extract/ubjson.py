"""UBJSON walked in place (ubjson.org, draft 12): arrays of one type, which trees are made of, are skipped."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from catchment.errors import ExtractionFailed
from catchment.formats.extract.folder import Buffer

MAX_DEPTH = 60
MAX_ITEMS = 1_000_000

_NUMBERS = {"i": ">b", "U": ">B", "I": ">h", "l": ">i", "L": ">q", "d": ">f", "D": ">d"}
_EMPTY = {"Z": None, "T": True, "F": False}

At = int
"""Where a value's marker stands."""


class Ubjson:
    """A UBJSON document; `root` is where its value begins."""

    def __init__(self, data: Buffer) -> None:
        self._data = data
        self.root: At = 0

    def members(self, at: At) -> Iterator[tuple[str, At]]:
        """Name and place of each member of the object that begins there."""
        if self._marker(at) != "{":
            raise ExtractionFailed(f"the file is damaged: no UBJSON object at byte {at}")
        at += 1
        if self._marker(at) in "$#":
            raise ExtractionFailed("the file holds a UBJSON object with a count, which is not read")
        while (marker := self._marker(at)) != "}":
            if marker == "N":
                at += 1
                continue
            length, at = self._length(at)
            name, at = self._bytes(at, length).decode("utf-8", "replace"), at + length
            yield name, at
            at = self._skipped(at, 0)

    def value(self, at: At) -> Any:
        """The value that begins there, which must be small."""
        return self._value(at, 0)[0]

    def _value(self, at: At, depth: int) -> tuple[Any, At]:
        marker = self._marker(at)
        if depth > MAX_DEPTH:
            raise ExtractionFailed(f"the file nests values more than {MAX_DEPTH} deep")
        if marker == "{":
            return {
                name: self._value(inner, depth + 1)[0] for name, inner in self.members(at)
            }, self._skipped(at, depth)
        if marker == "[":
            return self._list(at + 1, depth + 1)
        return self._scalar(marker, at + 1)

    def _list(self, at: At, depth: int) -> tuple[list[Any], At]:
        kind, number, at = self._head(at)
        found: list[Any] = []
        while number is None or len(found) < number:
            if number is None and self._marker(at) == "]":
                return found, at + 1
            value, at = self._value(at, depth) if kind is None else self._scalar(kind, at)
            found.append(value)
            if len(found) > MAX_ITEMS:
                raise ExtractionFailed(f"a list of more than {MAX_ITEMS} values where a small one belongs")
        return found, at

    def _scalar(self, kind: str, at: At) -> tuple[Any, At]:
        """A value without its marker."""
        if kind in _EMPTY:
            return _EMPTY[kind], at
        if kind in _NUMBERS:
            size = struct.calcsize(_NUMBERS[kind])
            return struct.unpack(_NUMBERS[kind], self._bytes(at, size))[0], at + size
        if kind == "C":
            return self._bytes(at, 1).decode("latin-1"), at + 1
        if kind in ("S", "H"):
            length, at = self._length(at)
            return self._bytes(at, length).decode("utf-8", "replace"), at + length
        raise ExtractionFailed(f"the file is damaged: an unknown UBJSON marker before byte {at}")

    def _skipped(self, at: At, depth: int) -> At:
        """Behind the value."""
        marker = self._marker(at)
        if depth > MAX_DEPTH:
            raise ExtractionFailed(f"the file nests values more than {MAX_DEPTH} deep")
        if marker == "{":
            at += 1
            while (inner := self._marker(at)) != "}":
                if inner in "$#":
                    raise ExtractionFailed("the file holds a UBJSON object with a count, which is not read")
                length, at = self._length(at)
                self._bytes(at, length)
                at = self._skipped(at + length, depth + 1)
            return at + 1
        if marker != "[":
            return self._scalar(marker, at + 1)[1]
        kind, number, at = self._head(at + 1)
        if number is None:
            while self._marker(at) != "]":
                at = self._skipped(at, depth + 1)
            return at + 1
        if kind in _NUMBERS:
            at += number * struct.calcsize(_NUMBERS[kind])
            self._bytes(at - 1, 1) if number else None
            return at
        for _ in range(number):
            at = self._skipped(at, depth + 1) if kind is None else self._scalar(kind, at)[1]
        return at

    def _head(self, at: At) -> tuple[str | None, int | None, At]:
        """Type and number of a list's values where it tells them."""
        kind = None
        if self._marker(at) == "$":
            kind, at = self._marker(at + 1), at + 2
            if self._marker(at) != "#" or kind not in (*_NUMBERS, "C", "S", "H"):
                raise ExtractionFailed(f"the file is damaged: a UBJSON list of type {kind!r} at byte {at}")
        if self._marker(at) != "#":
            return kind, None, at
        number, at = self._length(at + 1)
        return kind, number, at

    def _length(self, at: At) -> tuple[int, At]:
        marker = self._marker(at)
        if marker not in "iUIlL":
            raise ExtractionFailed(f"the file is damaged: no UBJSON length at byte {at}")
        value, at = self._scalar(marker, at + 1)
        if not 0 <= value <= len(self._data) - at:
            raise ExtractionFailed(f"the file is damaged or cut off: a UBJSON length of {value} at byte {at}")
        return value, at

    def _marker(self, at: At) -> str:
        return self._bytes(at, 1).decode("latin-1")

    def _bytes(self, at: At, size: int) -> bytes:
        found = self._data[at : at + size]
        if len(found) != size:
            raise ExtractionFailed("the file is cut off: UBJSON ends in the middle of a value")
        return found
