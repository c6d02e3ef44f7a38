"""Files as zips: packed so that equal files give equal bytes, unpacked so that nothing leaves its folder."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from catchment.errors import CatchmentError

ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""Every member's time, so that the bytes depend on names and contents alone."""
_COPY = 1024 * 1024
_LOCAL_HEADER_BYTES = 30
_MAX_DIRECTORY_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Content:
    """What an archive may hold, and how a breach is told.

    Attributes:
        what: the archive's content in a sentence, plural, such as "the sent scripts".
        error: raised with that sentence.
        max_files: entries.
        max_bytes: of all files together, unpacked.
        flat: whether folders are refused.
        max_ratio: a file's unpacked to packed bytes, looked at once `free_bytes` of the archive are unpacked.
        free_bytes: so much may come out of however little.
    """

    what: str
    error: type[CatchmentError]
    max_files: int = 20_000
    max_bytes: int = 2**30
    flat: bool = False
    max_ratio: float = float("inf")
    free_bytes: int = 2**28


@dataclass(frozen=True)
class Member:
    """A file in an archive; to be read before the next one is asked for.

    Attributes:
        name: as the archive has it.
        size: bytes, as announced; what comes is checked against it.
        executable: whether its owner may run it.
    """

    name: str
    size: int
    executable: bool
    _pieces: Iterator[bytes]

    def read(self) -> Iterator[bytes]:
        """Its bytes, a MiB at most at once."""
        return self._pieces


def pack(files: dict[str, Path], archive: Path) -> None:
    """Write the files, uncompressed, under their names and in the order of those to the new zip `archive`."""
    with zipfile.ZipFile(archive, "x", zipfile.ZIP_STORED) as zipped:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, ZIP_TIME)
            with files[name].open("rb") as source, zipped.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, _COPY)


def unpack(archive: Path, folder: Path, content: Content) -> None:
    """Unpack `archive` into the new folder `folder`.

    Raises:
        CatchmentError: of the content's kind: it is no zip, or holds what it may not hold; nothing is left
            behind then.
    """
    folder.mkdir(parents=True)
    try:
        with _opened(archive, content) as zipped:
            left = content.max_bytes
            for entry, path in _entries(zipped, content):
                left -= _unpack_one(zipped, entry, folder / path, left, content)
    except CatchmentError:
        shutil.rmtree(folder)
        raise


def check(archive: Path, content: Content) -> None:
    """Read the whole archive and pass when `unpack` would.

    Raises:
        CatchmentError: of the content's kind.
    """
    seen: set[PurePosixPath] = set()
    with _opened(archive, content) as zipped:
        left = content.max_bytes
        for entry, path in _entries(zipped, content):
            if path in seen or any(parent in seen for parent in path.parents):
                raise content.error(f"{content.what} hold {entry.filename!r} twice")
            if not entry.is_dir():
                seen.add(path)
                for piece in _pieces(zipped, entry, left, content):
                    left -= len(piece)


def members(archive: Path, content: Content) -> Iterator[Member]:
    """The archive's files in its own order, without unpacking them anywhere.

    Args:
        archive: of unknown origin.
        content: what it may hold.

    Raises:
        CatchmentError: of the content's kind: it is damaged, encrypted or a bomb, or entries share bytes, or
            it holds what it may not hold.
    """
    with _opened(archive, content) as zipped:
        _check_apart(zipped, content)
        left = content.max_bytes
        for entry, _ in _entries(zipped, content):
            if entry.is_dir():
                continue
            executable = bool((entry.external_attr >> 16) & stat.S_IXUSR)
            used = content.max_bytes - left
            pieces = _watched(_pieces(zipped, entry, left, content), entry, used, content)
            yield Member(entry.orig_filename, entry.file_size, executable, pieces)
            for _piece in pieces:
                pass
            left -= entry.file_size


def _check_apart(zipped: zipfile.ZipFile, content: Content) -> None:
    """Entries that share bytes unfold to squares of them; no honest writer makes such."""
    end = 0
    for entry in sorted(zipped.infolist(), key=lambda each: each.header_offset):
        if entry.header_offset < end:
            raise content.error(f"{content.what} hold {entry.orig_filename!a}, whose bytes are another's too")
        end = entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size
        if entry.flag_bits & 1:
            raise content.error(f"{content.what} are encrypted; send them without a password")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise content.error(
                f"{content.what} are packed by method {entry.compress_type}; stored and deflated are taken"
            )


def _watched(pieces: Iterator[bytes], entry: zipfile.ZipInfo, used: int, content: Content) -> Iterator[bytes]:
    """The pieces, while they are no more than announced and no bomb."""
    size = 0
    with _told(content):
        for piece in pieces:
            size += len(piece)
            if used + size > content.free_bytes and size > content.max_ratio * max(entry.compress_size, 1):
                raise content.error(
                    f"{content.what} hold {entry.orig_filename!a}, which unfolds to more than "
                    f"{content.max_ratio:g} times its size, as bombs do"
                )
            yield piece
    if size != entry.file_size:
        raise content.error(f"{content.what} hold {entry.orig_filename!a}, which is not as long as announced")


class _Bounded:
    """A file of which nobody reads much at once: an archive's directory could be as large as a disk."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes. Raises ValueError when that is too much."""
        if size < 0 or size > _MAX_DIRECTORY_BYTES:
            size = max(0, os.fstat(self._file.fileno()).st_size - self._file.tell()) if size < 0 else size
            if size > _MAX_DIRECTORY_BYTES:
                raise ValueError(f"its directory is {size} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file's."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As a file's."""
        return self._file.tell()

    def seekable(self) -> bool:
        """As a file's."""
        return True


@contextmanager
def _opened(archive: Path, content: Content) -> Iterator[zipfile.ZipFile]:
    with _told(content), archive.open("rb") as file, zipfile.ZipFile(_Bounded(file)) as zipped:
        yield zipped


@contextmanager
def _told(content: Content) -> Iterator[None]:
    """Turn what a damaged archive raises into the content's kind of error."""
    try:
        yield
    except (
        *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OverflowError),
        *(NotImplementedError, RuntimeError, ValueError),
    ) as error:
        raise content.error(f"{content.what} are no usable zip: {error}") from error


def _entries(zipped: zipfile.ZipFile, content: Content) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    entries = zipped.infolist()
    if len(entries) > content.max_files:
        raise content.error(f"{content.what} are {len(entries)} files, {content.max_files} are allowed")
    for entry in entries:
        yield entry, _plain(entry, content)


def _plain(entry: zipfile.ZipInfo, content: Content) -> PurePosixPath:
    """The entry's relative path; refused when it leads out of the folder, or is a link or a device."""
    name = entry.orig_filename
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise content.error(f"{content.what} hold {name!r}, which is no plain relative path")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise content.error(f"{content.what} hold {name!r}, which is neither a file nor a folder")
    if any(len(part.encode(errors="replace")) > 255 for part in path.parts):
        raise content.error(f"{content.what} hold a name of more than 255 bytes")
    if content.flat and (entry.is_dir() or len(path.parts) > 1):
        raise content.error(f"{content.what} hold {name!r}, folders are not allowed")
    return path


def _unpack_one(
    zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, left: int, content: Content
) -> int:
    """Write one file or folder; return the file's size."""
    try:
        if entry.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            return 0
        path.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with path.open("xb") as target:
            for piece in _pieces(zipped, entry, left, content):
                target.write(piece)
                written += len(piece)
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise content.error(f"{content.what} hold {entry.filename!r} twice") from error
    if (entry.external_attr >> 16) & stat.S_IXUSR:
        path.chmod(0o755)
    return written


def _pieces(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int, content: Content) -> Iterator[bytes]:
    """One file's bytes. What the archive announces of its size is not believed."""
    with zipped.open(entry) as source:
        while piece := source.read(_COPY):
            left -= len(piece)
            if left < 0:
                raise content.error(f"{content.what} are more than {content.max_bytes} bytes when unpacked")
            yield piece
