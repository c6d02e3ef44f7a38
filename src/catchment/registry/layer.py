"""The layer `application/tar+gzip`, deflated: by several threads, in the memory of a few pieces."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from isal import isal_zlib

from catchment.models.files import ModelFile
from catchment.models.spans import PIECE_BYTES
from catchment.registry.stored_layer import GZIP_HEADER
from catchment.registry.tar_headers import tar_of

LAYER_TYPE = "application/tar+gzip"
_LEVEL = 1
_LAST_BLOCK = b"\x03\x00"


class Target(Protocol):
    """Takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Take all of them."""


@dataclass(frozen=True)
class WrittenLayer:
    """What was written.

    Attributes:
        digest: `sha256:<hex>` of the layer.
        size: bytes of the layer.
        diff_id: `sha256:<hex>` of the tar archive in it.
    """

    digest: str
    size: int
    diff_id: str


def write_layer(files: list[ModelFile], target: Target, *, threads: int | None = None) -> WrittenLayer:
    """Write the deflated layer of the files, in the order given.

    The digest is that of the bytes written. The deflating library may write others for the same files
    another time, which has been seen, though rarely; `StoredLayer` gives the same ones always.

    Args:
        files: what it holds.
        target: takes the bytes.
        threads: that deflate; by default one for each CPU.

    Raises:
        BadArtifact: a file has become shorter.
    """
    packed, plain, size = hashlib.sha256(), hashlib.sha256(), 0

    def seen(pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            plain.update(piece)
            yield piece

    tar = tar_of(files)
    for piece in deflated(seen(tar.read(0, tar.size)), threads=threads):
        packed.update(piece)
        target.write(piece)
        size += len(piece)
    return WrittenLayer(f"sha256:{packed.hexdigest()}", size, f"sha256:{plain.hexdigest()}")


def deflated(pieces: Iterable[bytes], *, threads: int | None = None) -> Iterator[bytes]:
    """The pieces as a gzip stream. At most two of them for each thread are in memory."""
    threads = threads or os.cpu_count() or 1
    waiting: deque[Future[bytes]] = deque()
    crc = size = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="deflate") as pool:
        yield GZIP_HEADER
        for piece in _even(pieces):
            crc, size = isal_zlib.crc32(piece, crc), size + len(piece)
            waiting.append(pool.submit(_deflate, piece))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    yield _LAST_BLOCK + crc.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")


def _deflate(piece: bytes) -> bytes:
    """The piece by itself, ended at a byte, so that others can follow."""
    deflating = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    return deflating.compress(piece) + deflating.flush(isal_zlib.Z_SYNC_FLUSH)


def _even(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of PIECE_BYTES, each worth a thread's while."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= PIECE_BYTES:
            yield bytes(held[:PIECE_BYTES])
            del held[:PIECE_BYTES]
    if held:
        yield bytes(held)
