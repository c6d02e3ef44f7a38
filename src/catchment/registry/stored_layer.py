"""A layer whose gzip stream holds its files as they are, so that it need not be stored itself.

Trained weights hardly shrink (8 % for float32). A stored layer is a pure function of its files: its size is
known before a byte is read, every range of it can be given from the files, and its digest never depends on
who packed it with which library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from isal import isal_zlib

from catchment.errors import BadArtifact
from catchment.models.files import ModelFile
from catchment.models.spans import PIECE_BYTES
from catchment.registry.tar_headers import tar_of

GZIP_HEADER = bytes.fromhex("1f8b08000000000000ff")
"""No name, no time, unknown system, as Go's writer makes it."""
BLOCK_BYTES = 65_535
"""The most that a stored block of deflate holds."""
_HEAD_BYTES = 5
_FRAME_BYTES = BLOCK_BYTES + _HEAD_BYTES
_TRAILER_BYTES = 8


class StoredLayer:
    """The layer `application/tar+gzip` of some files, without compression.

    Args:
        files: in the order that they shall have. Each one's `crc32` saves a pass over it.
        crc32: of the tar archive, as `tar_crc32()` once gave it; with it nothing is computed again.
    """

    def __init__(self, files: list[ModelFile], *, crc32: int | None = None) -> None:
        self._tar = tar_of(files)
        self._crc = crc32
        self._blocks = -(-self._tar.size // BLOCK_BYTES)
        self._body = self._tar.size + _HEAD_BYTES * self._blocks
        self.tar_size = self._tar.size
        self.size = len(GZIP_HEADER) + self._body + _TRAILER_BYTES

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The layer's bytes from `start` to before `stop`, a MiB or so at a time.

        Raises:
            BadArtifact: the range is none, or a file has become shorter.
        """
        stop = self.size if stop is None else stop
        if not 0 <= start <= stop <= self.size:
            raise BadArtifact(f"bytes {start} to {stop} are no range of a layer of {self.size} bytes")
        body, end = len(GZIP_HEADER), len(GZIP_HEADER) + self._body
        if start < min(stop, body):
            yield GZIP_HEADER[start : min(stop, body)]
        if max(start, body) < min(stop, end):
            yield from self._read_body(max(start, body) - body, min(stop, end) - body)
        if max(start, end) < stop:
            yield self._trailer()[max(start, end) - end : stop - end]

    def digest(self) -> str:
        """`sha256:<hex>` of the layer: one pass over the files, which also learns the CRC-32."""
        sha, crc = hashlib.sha256(GZIP_HEADER), 0

        def seen(pieces: Iterable[bytes]) -> Iterator[bytes]:
            nonlocal crc
            for piece in pieces:
                crc = isal_zlib.crc32(piece, crc)
                yield piece

        for piece in self._framed(seen(self._tar.read(0, self.tar_size)), 0, 0):
            sha.update(piece)
        self._crc = crc
        sha.update(self._trailer())
        return f"sha256:{sha.hexdigest()}"

    def tar_crc32(self) -> int:
        """CRC-32 of the tar archive; files whose own is not known are read for it."""
        if self._crc is None:
            self._crc = self._tar.crc32()
        return self._crc

    def _trailer(self) -> bytes:
        return self.tar_crc32().to_bytes(4, "little") + (self.tar_size % 2**32).to_bytes(4, "little")

    def _read_body(self, start: int, stop: int) -> Iterator[bytes]:
        """A range of the deflate stream, which is a row of frames: five bytes of head and a block."""
        number, skipped = divmod(start, _FRAME_BYTES)
        pieces = self._tar.read(_inner(start), min(_inner(stop), self.tar_size))
        left = stop - start
        for piece in self._framed(pieces, number, skipped):
            yield piece[:left]
            left -= min(left, len(piece))
        if left:  # the range ends inside of a head
            number, had = divmod(stop - left, _FRAME_BYTES)
            yield self._head(number)[had : had + left]

    def _framed(self, pieces: Iterable[bytes], number: int, skipped: int) -> Iterator[bytes]:
        """The pieces cut into frames, beginning `skipped` bytes into frame `number`."""
        out = bytearray(self._head(number)[skipped:])
        room = BLOCK_BYTES - max(0, skipped - _HEAD_BYTES)
        for piece in pieces:
            view = memoryview(piece)
            while view:
                if not room:
                    number, room = number + 1, BLOCK_BYTES
                    out += self._head(number)
                taken = view[:room]
                out += taken
                view, room = view[len(taken) :], room - len(taken)
            if len(out) >= PIECE_BYTES:
                yield bytes(out)
                out.clear()
        if out:
            yield bytes(out)

    def _head(self, number: int) -> bytes:
        """What stands before a block: whether it is the last, its length, and that inverted."""
        last = number == self._blocks - 1
        length = self.tar_size - number * BLOCK_BYTES if last else BLOCK_BYTES
        return bytes([last]) + length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little")


def _inner(place: int) -> int:
    """How many bytes of the tar archive stand before a place of the deflate stream."""
    number, offset = divmod(place, _FRAME_BYTES)
    return number * BLOCK_BYTES + max(0, offset - _HEAD_BYTES)
