"""Files of a model that came in, written once, and hashed while they are written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from isal import isal_zlib

from catchment.errors import BadArtifact
from catchment.models.files import ModelFile
from catchment.models.spans import FileSource


class Incoming(Protocol):
    """A file of an uploaded zip or of a layer."""

    @property
    def name(self) -> str:
        """Plain and relative."""

    @property
    def size(self) -> int:
        """Bytes that are announced."""

    @property
    def mode(self) -> int:
        """Permission bits."""

    @property
    def mtime(self) -> int:
        """Seconds since 1970."""

    def read(self) -> Iterator[bytes]:
        """Its bytes, once."""


def receive(incoming: Iterable[Incoming], new_file: Callable[[], Path]) -> Iterator[ModelFile]:
    """Write each file to a place of its own; memory is one piece.

    What was written before an error stays: whoever gives the places knows them.

    Args:
        incoming: the files; each is read before the next one is asked for.
        new_file: gives the path of a file to write, on which nothing else works.

    Yields:
        The files with their digests and CRCs, in their order. They lie on the disk, but are not synced.

    Raises:
        BadArtifact: of the archive that they come from, or a file is not as long as announced.
    """
    for each in incoming:
        path = new_file()
        sha, crc, size = hashlib.sha256(), 0, 0
        with path.open("wb") as target:
            for piece in each.read():
                sha.update(piece)
                crc, size = isal_zlib.crc32(piece, crc), size + len(piece)
                target.write(piece)
        if size != each.size:
            raise BadArtifact(f"{each.name!a} is {size} bytes, {each.size} were announced")
        digest = f"sha256:{sha.hexdigest()}"
        yield ModelFile(each.name, size, FileSource(path), digest, crc, each.mode, each.mtime)
