"""Files as zips: packed so that equal files give equal bytes, unpacked so that nothing leaves its folder."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from catchment.errors import CatchmentError

ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""Every member's time, so that the bytes depend on names and contents alone."""
_COPY = 1024 * 1024


@dataclass(frozen=True)
class Content:
    """What an archive may hold, and how a breach is told.

    Attributes:
        what: the archive's content in a sentence, plural, such as "the sent scripts".
        error: raised with that sentence.
        max_files: entries.
        max_bytes: of all files together, unpacked.
        flat: whether folders are refused.
    """

    what: str
    error: type[CatchmentError]
    max_files: int = 20_000
    max_bytes: int = 2**30
    flat: bool = False


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


@contextmanager
def _opened(archive: Path, content: Content) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as zipped:
            yield zipped
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
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
