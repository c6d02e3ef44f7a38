"""Unpacking scripts that were sent: a zip may hold plain files and folders, nothing else."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from catchment.errors import SiteError

MAX_FILES = 20_000
MAX_BYTES = 2**30
_COPY = 1024 * 1024


def unpack(archive: Path, folder: Path) -> None:
    """Unpack `archive` into the new folder `folder`.

    Raises:
        SiteError: it is no zip, or holds what a folder of scripts cannot hold; nothing is left behind then.
    """
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as zipped:
            _unpack(zipped, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        shutil.rmtree(folder)
        raise SiteError(f"the sent scripts are no usable zip: {error}") from error
    except SiteError:
        shutil.rmtree(folder)
        raise


def _unpack(zipped: zipfile.ZipFile, folder: Path) -> None:
    entries = zipped.infolist()
    if len(entries) > MAX_FILES:
        raise SiteError(f"the sent scripts are {len(entries)} files, {MAX_FILES} are allowed")
    left = MAX_BYTES
    for entry in entries:
        path = folder / _plain(entry)
        try:
            if entry.is_dir():
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                left -= _write(zipped, entry, path, left)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise SiteError(f"the sent scripts hold {entry.filename!r} twice") from error


def _plain(entry: zipfile.ZipInfo) -> PurePosixPath:
    """The entry's relative path.

    Raises:
        SiteError: it leads out of the folder, or the entry is a link or a device.
    """
    name = entry.orig_filename
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise SiteError(f"the sent scripts hold {name!r}, which is no plain relative path")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise SiteError(f"the sent scripts hold {name!r}, which is neither a file nor a folder")
    return path


def _write(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, left: int) -> int:
    """Write one file; return its size. What the archive announces is not believed."""
    written = 0
    with zipped.open(entry) as source, path.open("xb") as target:
        while piece := source.read(_COPY):
            written += len(piece)
            if written > left:
                raise SiteError(f"the sent scripts are more than {MAX_BYTES} bytes when unpacked")
            target.write(piece)
    if (entry.external_attr >> 16) & stat.S_IXUSR:
        path.chmod(0o755)
    return written
