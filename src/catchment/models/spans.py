"""Long byte strings made of known bytes and of files, of known size; any range of them can be read."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from isal import isal_zlib

from catchment.errors import BadArtifact

PIECE_BYTES = 2**20
"""At most so much is read at once."""


class Source(Protocol):
    """Bytes that can be read from any place, again and again, and are the same each time."""

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`, in pieces of at most PIECE_BYTES.

        Raises:
            BadArtifact: there are fewer.
        """


@dataclass(frozen=True)
class FileSource:
    """A file of this machine."""

    path: Path

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """As Source.read says."""
        with self.path.open("rb", buffering=0) as file:
            file.seek(start)
            while start < stop:
                piece = file.read(min(PIECE_BYTES, stop - start))
                if not piece:
                    raise BadArtifact(f"{self.path.name} has become shorter while it was read")
                start += len(piece)
                yield piece


@dataclass(frozen=True)
class BytesSource:
    """Bytes in memory."""

    data: bytes

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """As Source.read says."""
        if stop > len(self.data):
            raise BadArtifact(f"{stop} bytes were announced, {len(self.data)} are there")
        for begin in range(start, stop, PIECE_BYTES):
            yield self.data[begin : min(begin + PIECE_BYTES, stop)]


@dataclass(frozen=True)
class Span:
    """The first `size` bytes of a source; their CRC-32 where it is known."""

    source: Source
    size: int
    crc32: int | None = None


class Spans:
    """Spans one after the other, itself a source."""

    def __init__(self, spans: Iterable[bytes | Span]) -> None:
        self._spans = [
            Span(BytesSource(each), len(each)) if isinstance(each, bytes) else each
            for each in spans
            if not isinstance(each, bytes) or each
        ]
        self._starts = [0, *itertools.accumulate(each.size for each in self._spans)]

    @property
    def size(self) -> int:
        """Bytes of all spans together."""
        return self._starts[-1]

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """As Source.read says."""
        place = max(0, bisect_right(self._starts, start) - 1)
        while start < stop:
            if place >= len(self._spans):
                raise BadArtifact(f"{stop} bytes were announced, {self.size} are there")
            begin, end = self._starts[place], min(self._starts[place + 1], stop)
            if start < end:
                yield from self._spans[place].source.read(start - begin, end - begin)
                start = end
            place += 1

    def crc32(self) -> int:
        """CRC-32 of all of it; only spans whose own is not known are read."""
        total = 0
        for span in self._spans:
            own = crc32_of(span.source, span.size) if span.crc32 is None else span.crc32
            total = isal_zlib.crc32_combine(total, own, span.size)
        return total


def crc32_of(source: Source, size: int) -> int:
    """CRC-32 of the first `size` bytes."""
    crc = 0
    for piece in source.read(0, size):
        crc = isal_zlib.crc32(piece, crc)
    return crc
