"""Layers of unknown origin, member by member, in flat memory.

Read by a parser of our own: what a tar archive can hold beside files and folders is refused here, not
unpacked with care, and whatever is wrong is one kind of error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from catchment.errors import BadArtifact
from catchment.models.files import Limits, Names, plain_name
from catchment.models.spans import PIECE_BYTES
from catchment.registry.tar_fields import TarHeader, pax_records, read_header
from catchment.registry.tar_headers import BLOCK_BYTES
from catchment.registry.unpacking import Packing, unpacked

_MAX_EXTENSION_BYTES = 2**20
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
}


@dataclass
class Member:
    """A file of a layer. Its bytes must be read before the next member is asked for, else they are passed
    over.

    Attributes:
        name: plain and relative, as `plain_name` gives it.
        size: bytes.
        mode: permission bits.
        mtime: seconds since 1970.
    """

    name: str
    size: int
    mode: int
    mtime: int
    _pieces: Iterator[bytes] = field(repr=False)

    def read(self) -> Iterator[bytes]:
        """What is left of its bytes, in pieces.

        Raises:
            BadArtifact: the layer ends before.
        """
        return self._pieces


def read_layer(
    pieces: Iterable[bytes], limits: Limits | None = None, packing: Packing = "any"
) -> Iterator[Member]:
    """The files of a layer, in its order.

    Folders are left out: they come from the files' names. A name with `./` or a leading slash is taken
    without it. When the iteration ends by itself, the stream was read to its end and is whole.

    Args:
        pieces: the layer's bytes, in any cuts.
        limits: what it may hold.
        packing: what it must be; "any" lets its first bytes say it.

    Raises:
        BadArtifact: it is damaged or cut off, or holds links, devices, names that lead out, a name twice, or
            more than the limits.
    """
    limits = limits or Limits()
    stream = _Stream(unpacked(pieces, limits, packing))
    names, total = Names(), 0
    for header in _headers(stream, limits):
        if header.is_folder and header.name.strip("/.") == "":
            continue
        if header.kind in _REFUSED or not (header.is_file or header.is_folder):
            kind = _REFUSED.get(header.kind, f"an entry of kind {header.kind!r}")
            raise BadArtifact(f"the layer holds {header.name!a}, {kind}; only files and folders are taken")
        name = plain_name(header.name)
        names.add(name, folder=header.is_folder)
        if header.is_folder:
            continue
        total += header.size
        if total > limits.max_bytes:
            raise BadArtifact(f"the layer unfolds to more than {limits.max_bytes} bytes")
        content = stream.pieces(header.size)
        yield Member(name, header.size, header.mode, header.mtime, content)
        for _ in content:
            pass
        stream.exactly(-header.size % BLOCK_BYTES)


def _headers(stream: _Stream, limits: Limits) -> Iterator[TarHeader]:
    """Headers of members, with what extensions before them say put in. The reader takes the content."""
    extension: dict[str, str] = {}
    members = blocks = 0
    while any(block := stream.exactly(BLOCK_BYTES)):
        header = read_header(block)
        blocks += 1
        if members >= limits.max_files or blocks > 4 * limits.max_files:
            raise BadArtifact(f"the layer holds more than {limits.max_files} entries")
        if header.kind in (b"x", b"g", b"L", b"K"):
            words = _extension(stream, header)
            extension |= words if header.kind != b"g" else {}
            continue
        members += 1
        yield header.extended(extension)
        extension = {}
    if extension:
        raise BadArtifact("the layer ends after an extended header, where a file should follow")
    stream.expect_zeros()


def _extension(stream: _Stream, header: TarHeader) -> dict[str, str]:
    if header.size > _MAX_EXTENSION_BYTES:
        raise BadArtifact(f"the layer holds an extended header of {header.size} bytes")
    data = stream.exactly(header.size)
    stream.exactly(-header.size % BLOCK_BYTES)
    if header.kind in (b"L", b"K"):
        try:
            return {"path" if header.kind == b"L" else "linkpath": data.rstrip(b"\0").decode()}
        except UnicodeDecodeError as error:
            raise BadArtifact("the layer holds a file name that is no UTF-8") from error
    return pax_records(data)


class _Stream:
    """Bytes that are taken in exact numbers."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._ahead = memoryview(b"")

    def pieces(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes, at most PIECE_BYTES at once."""
        while size:
            piece = self._some(min(size, PIECE_BYTES))
            size -= len(piece)
            yield piece

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes at once."""
        return b"".join(self.pieces(size))

    def expect_zeros(self) -> None:
        """Read the rest, which may be nothing but zeros."""
        rest = bytes(self._ahead)
        while rest or (rest := next(self._pieces, b"")):
            if rest.strip(b"\0"):
                raise BadArtifact("the layer goes on after the end of its tar archive")
            rest = b""

    def _some(self, size: int) -> bytes:
        while not self._ahead:
            piece = next(self._pieces, None)
            if piece is None:
                raise BadArtifact("the layer is cut off: its tar archive ends in the middle")
            self._ahead = memoryview(piece)
        taken, self._ahead = self._ahead[:size], self._ahead[size:]
        return bytes(taken)
