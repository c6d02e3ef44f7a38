"""Compressed streams of unknown origin as plain bytes: in flat memory, and not for ever."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Literal

from catchment.errors import BadArtifact
from catchment.models.files import Limits
from catchment.models.spans import PIECE_BYTES

Packing = Literal["any", "tar", "gzip", "zstd"]
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_MAX_ZSTD_WINDOW = 2**27
_WHAT = "the layer"


def unpacked(pieces: Iterable[bytes], limits: Limits, packing: Packing = "any") -> Iterator[bytes]:
    """The plain bytes of a stream.

    Args:
        pieces: the stream, in any cuts.
        limits: what it may unfold to.
        packing: what it must be; "any" lets its first bytes say it.

    Raises:
        BadArtifact: it is not what it must be, damaged, cut off, followed by other bytes, or a bomb.
    """
    stream = _Counted(pieces)
    start = stream.at_least(4)
    kind = "gzip" if start.startswith(_GZIP) else "zstd" if start == _ZSTD else "tar"
    if packing not in ("any", kind):
        raise BadArtifact(f"{_WHAT} is {kind}, {packing} was announced")
    if kind == "tar":
        return iter(stream)
    return _gunzipped(stream, limits) if kind == "gzip" else _unzstd(stream, limits)


class _Counted:
    """Pieces, of which the first bytes can be seen before; counts what was taken."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._ahead = b""
        self.taken = 0

    def at_least(self, size: int) -> bytes:
        """The first bytes, which stay; fewer when there are no more."""
        while len(self._ahead) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._ahead += piece
        return self._ahead[:size]

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read():
            yield piece

    def read(self, _size: int = -1) -> bytes:
        """The next piece whatever its size; empty at the end."""
        piece, self._ahead = self._ahead, b""
        while not piece:
            found = next(self._pieces, None)
            if found is None:
                return b""
            piece = bytes(found)
        self.taken += len(piece)
        return piece


def _gunzipped(stream: _Counted, limits: Limits) -> Iterator[bytes]:
    """All members one after the other, as gzip and Go read them."""
    given, inflating, data = 0, zlib.decompressobj(31), b""
    while data := data or stream.read():
        if inflating.eof:
            data = _next_member(data, stream)
            inflating = zlib.decompressobj(31)
        try:
            piece = inflating.decompress(data, PIECE_BYTES)
        except zlib.error as error:
            raise BadArtifact(f"{_WHAT} is no sound gzip stream: {error}") from error
        data = inflating.unused_data if inflating.eof else inflating.unconsumed_tail
        given += len(piece)
        limits.check_ratio(stream.taken, given, _WHAT)
        if piece:
            yield piece
    if not inflating.eof:
        raise BadArtifact(f"{_WHAT} is cut off: its gzip stream does not end")


def _next_member(data: bytes, stream: _Counted) -> bytes:
    if len(data) < 2:
        data += stream.read()
    if not data.startswith(_GZIP):
        raise BadArtifact(f"{_WHAT} goes on after the end of its gzip stream, with what is no gzip")
    return data


def _unzstd(stream: _Counted, limits: Limits) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise BadArtifact(f"{_WHAT} is packed by zstd; reading it needs: pip install zstandard") from error
    opened = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW).stream_reader(
        stream,  # type: ignore[arg-type]  # nothing but read() is used of it
        read_across_frames=True,
    )
    given = 0
    while True:
        try:
            piece = opened.read(PIECE_BYTES)
        except zstandard.ZstdError as error:
            raise BadArtifact(f"{_WHAT} is no sound zstd stream: {error}") from error
        if not piece:
            return
        given += len(piece)
        limits.check_ratio(stream.taken, given, _WHAT)
        yield piece
