"""Large JSON files walked in place: what is not asked for is skipped by the regular expression machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from catchment.errors import ExtractionFailed
from catchment.formats.extract.folder import Buffer

MAX_VALUE_BYTES = 16 * 2**20

_BLANK = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]+")
_STRUCTURE = re.compile(rb'["{}\[\]]')

At = int
"""Where a value begins."""


class JsonSpans:
    """A JSON document; `root` is where its value begins."""

    def __init__(self, data: Buffer) -> None:
        self._data = data
        self.root: At = self._blank(0)

    def members(self, at: At) -> Iterator[tuple[str, At]]:
        """Name and place of each member of the object that begins there."""
        at = self._after(b"{", at)
        while not self._is(b"}", at):
            name = _STRING.match(self._data, at)
            if name is None:
                raise _damaged(at)
            value = self._after(b":", self._blank(name.end()))
            yield str(self._loaded(name[0])), value
            at = self._blank(self._end(value))
            at = self._after(b",", at) if self._is(b",", at) else at
            if not self._is(b'"', at) and not self._is(b"}", at):
                raise _damaged(at)

    def value(self, at: At) -> Any:
        """The value that begins there, which must be small.

        Raises:
            ExtractionFailed: it is larger than MAX_VALUE_BYTES.
        """
        end = self._end(at)
        if end - at > MAX_VALUE_BYTES:
            raise ExtractionFailed(f"a JSON value of {end - at} bytes where a small one belongs")
        return self._loaded(self._data[at:end])

    def _loaded(self, text: bytes) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ExtractionFailed(f"the file is no JSON: {error}") from None

    def _end(self, at: At) -> At:
        """Behind the value; brackets are counted, not told apart."""
        if self._is(b'"', at):
            return self._string_end(at)
        if not self._is(b"{", at) and not self._is(b"[", at):
            scalar = _SCALAR.match(self._data, at)
            if scalar is None:
                raise _damaged(at)
            return scalar.end()
        depth = 0
        while True:
            found = _STRUCTURE.search(self._data, at)
            if found is None:
                raise ExtractionFailed("the file is cut off: a JSON object or list is not closed")
            if found[0] == b'"':
                at = self._string_end(found.start())
                continue
            at = found.end()
            depth += 1 if found[0] in b"{[" else -1
            if depth == 0:
                return at

    def _string_end(self, at: At) -> At:
        found = _STRING.match(self._data, at)
        if found is None:
            raise ExtractionFailed("the file is cut off: a JSON text is not closed")
        return found.end()

    def _blank(self, at: At) -> At:
        found = _BLANK.match(self._data, at)
        return found.end() if found else at

    def _is(self, byte: bytes, at: At) -> bool:
        return self._data[at : at + 1] == byte

    def _after(self, byte: bytes, at: At) -> At:
        if not self._is(byte, at):
            raise _damaged(at)
        return self._blank(at + 1)


def _damaged(at: At) -> ExtractionFailed:
    return ExtractionFailed(f"the file is damaged: no JSON at byte {at}")
