"""Zip archives of strangers: an entry is read only within a bound, whatever the archive says of its size."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from catchment.errors import ExtractionFailed
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import shown

MAX_ENTRIES = 100_000

_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    ValueError,
)


class Archive:
    """The entries of an open archive.

    Attributes:
        names: of all entries, in their order.
    """

    def __init__(self, zipped: zipfile.ZipFile) -> None:
        self._zipped = zipped
        self.names = zipped.namelist()
        if len(self.names) > MAX_ENTRIES:
            raise ExtractionFailed(f"the archive has {len(self.names)} entries, {MAX_ENTRIES} are read")

    def content(self, name: str, max_bytes: int) -> bytes:
        """All of a small entry.

        Raises:
            ExtractionFailed: there is none of that name, it is damaged, or has more than `max_bytes`.
        """
        with self.opened(name) as entry:
            content = entry.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise ExtractionFailed(
                f"{shown(name)} in the archive has more than {max_bytes} bytes when unpacked"
            )
        return content

    @contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """The entry as a file for reading."""
        try:
            with self._zipped.open(name) as entry:
                yield entry  # type: ignore[misc]
        except KeyError:
            raise ExtractionFailed(f"the archive has no {shown(name)}") from None
        except _DAMAGED as error:
            raise ExtractionFailed(f"{shown(name)} in the archive is damaged ({error})") from None

    def stored_bytes(self, name: str) -> int | None:
        """The entry's size when it is not compressed; None when it is."""
        info = self._zipped.getinfo(name)
        return info.file_size if info.compress_type == zipfile.ZIP_STORED else None

    def inside(self) -> dict[str, str]:
        """Names without the folder that all entries of PyTorch's archives lie in -> entries."""
        return {name.partition("/")[2]: name for name in self.names}


@contextmanager
def opened(folder: ModelFolder, name: str) -> Iterator[Archive]:
    """The archive in the file `name`.

    Raises:
        ExtractionFailed: it is no zip.
    """
    with folder.opened(name) as file:
        try:
            zipped = zipfile.ZipFile(file)
        except _DAMAGED as error:
            raise ExtractionFailed(f"{shown(name)} is no zip archive ({error})") from None
        with zipped:
            yield Archive(zipped)
