"""A zip that holds its files as they are: of known size, and any range of it can be given without a build."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from datetime import UTC, datetime

from catchment.errors import BadArtifact
from catchment.models.files import ModelFile
from catchment.models.spans import Span, Spans, crc32_of

_MAX_32 = 2**32 - 1
_MAX_16 = 2**16 - 1
_EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)
_LATEST = datetime(2107, 12, 31, 23, 59, 58, tzinfo=UTC)
_UTF_8_NAME = 1 << 11
_UNIX = 3
_PLAIN_VERSION, _ZIP64_VERSION = 20, 45


class StoredZip:
    """The zip of some files, in the order given.

    Args:
        files: each one's `crc32` saves a pass over it; those without are read once, before the first byte is
            given.
    """

    def __init__(self, files: list[ModelFile]) -> None:
        self._files = files
        self._layout: Spans | None = None
        # CRCs change no length.
        self.size = _layout(files, [0] * len(files)).size

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The zip's bytes from `start` to before `stop`, a MiB at most at once.

        Raises:
            BadArtifact: the range is none, or a file has become shorter.
        """
        stop = self.size if stop is None else stop
        if not 0 <= start <= stop <= self.size:
            raise BadArtifact(f"bytes {start} to {stop} are no range of a zip of {self.size} bytes")
        if self._layout is None:
            crcs = [
                crc32_of(each.source, each.size) if each.crc32 is None else each.crc32 for each in self._files
            ]
            self._layout = _layout(self._files, crcs)
        return self._layout.read(start, stop)


def _layout(files: list[ModelFile], crcs: list[int]) -> Spans:
    """Each file behind its local header, then the directory."""
    spans: list[bytes | Span] = []
    directory: list[bytes] = []
    offset = 0
    for file, crc in zip(files, crcs, strict=True):
        head = _local_header(file, crc)
        spans += [head, Span(file.source, file.size)]
        directory.append(_directory_entry(file, crc, offset))
        offset += len(head) + file.size
    listed = b"".join(directory)
    return Spans([*spans, listed + _end(len(files), len(listed), offset)])


def _local_header(file: ModelFile, crc: int) -> bytes:
    name, large = file.name.encode(), file.size >= _MAX_32
    size = _MAX_32 if large else file.size
    extra = struct.pack("<HHQQ", 1, 16, file.size, file.size) if large else b""
    version = _ZIP64_VERSION if large else _PLAIN_VERSION
    fixed = struct.pack(
        "<4sHHHIIIIHH",
        *(b"PK\x03\x04", version, _flags(file), 0, _dos_time(file.mtime)),
        *(crc, size, size, len(name), len(extra)),
    )
    return fixed + name + extra


def _directory_entry(file: ModelFile, crc: int, offset: int) -> bytes:
    name = file.name.encode()
    size = min(file.size, _MAX_32)
    wide = [file.size, file.size] if file.size >= _MAX_32 else []
    wide += [offset] if offset >= _MAX_32 else []
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    version = _ZIP64_VERSION if wide else _PLAIN_VERSION
    fixed = struct.pack(
        "<4sBBHHHIIIIHHHHHII",
        *(b"PK\x01\x02", version, _UNIX, version, _flags(file), 0, _dos_time(file.mtime)),
        *(crc, size, size, len(name), len(extra), 0, 0, 0),
        *((stat.S_IFREG | file.mode & 0o777) << 16, min(offset, _MAX_32)),
    )
    return fixed + name + extra


def _end(count: int, size: int, offset: int) -> bytes:
    """The end of the directory, with the wide one before it where a number does not fit."""
    wide = b""
    if count >= _MAX_16 or size >= _MAX_32 or offset >= _MAX_32:
        version = _ZIP64_VERSION
        wide = struct.pack(
            "<4sQHHIIQQQQ", b"PK\x06\x06", 44, version, version, 0, 0, count, count, size, offset
        ) + struct.pack("<4sIQI", b"PK\x06\x07", 0, offset + size, 1)
    few = min(count, _MAX_16)
    return wide + struct.pack(
        "<4sHHHHIIH", b"PK\x05\x06", 0, 0, few, few, min(size, _MAX_32), min(offset, _MAX_32), 0
    )


def _flags(file: ModelFile) -> int:
    return 0 if file.name.isascii() else _UTF_8_NAME


def _dos_time(mtime: int) -> int:
    """Time and date in the two-second steps of DOS, in UTC: equal files give equal bytes everywhere."""
    try:
        moment = min(max(datetime.fromtimestamp(mtime, UTC), _EARLIEST), _LATEST)
    except (OverflowError, ValueError, OSError):
        moment = _LATEST if mtime > 0 else _EARLIEST
    time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    return ((moment.year - 1980) << 9 | moment.month << 5 | moment.day) << 16 | time
