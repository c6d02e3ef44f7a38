"""The folder of a model: its files are found by name, and no link is followed."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from catchment.errors import ExtractionFailed
from catchment.formats.extract.result import shown

MAX_FILES = 100_000

Buffer = mmap.mmap | bytes


class ModelFolder:
    """What lies at the top of a model's folder.

    Attributes:
        path: of the folder.
        names: of the regular files at its top, sorted.
        size_bytes: of all regular files in it, at any depth.

    Raises:
        ExtractionFailed: it is no folder that can be read, or holds more than MAX_FILES files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        names, seen = [], 0
        try:
            for folder, _, files in os.walk(path, onerror=_raise):
                seen += len(files)
                if seen > MAX_FILES:
                    raise ExtractionFailed(f"the model has more than {MAX_FILES} files")
                for name in files:
                    status = (Path(folder) / name).lstat()
                    if stat.S_ISREG(status.st_mode):
                        self.size_bytes += status.st_size
                        names += [name] if folder == str(path) else []
        except OSError as error:
            raise ExtractionFailed(f"the model's folder cannot be read: {error.strerror}") from error
        self.names = sorted(names)

    def all(self, *patterns: str) -> list[str]:
        """The names that fit one of the patterns, however their letters are cased."""
        return [name for name in self.names if any(fnmatchcase(name.lower(), each) for each in patterns)]

    def one(self, *patterns: str) -> str:
        """The one file that fits.

        Raises:
            ExtractionFailed: there is none, or there are several.
        """
        found = self.all(*patterns)
        wanted = " or ".join(patterns)
        if not found:
            there = ", ".join(shown(name) for name in self.names[:8]) or "no file"
            raise ExtractionFailed(f"the model needs a file {wanted}; there is {there}")
        if len(found) > 1:
            several = ", ".join(shown(name) for name in found[:8])
            raise ExtractionFailed(f"which file is meant? One {wanted} is expected, there are {several}")
        return found[0]

    @contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """The regular file of this name, for reading."""
        path = self.path / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ExtractionFailed(f"{shown(name)} cannot be read: {error.strerror}") from error
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ExtractionFailed(f"{shown(name)} is no regular file")
            yield file

    @contextmanager
    def mapped(self, name: str) -> Iterator[Buffer]:
        """The file's bytes, of which only those that are looked at are ever read."""
        with self.opened(name) as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise ExtractionFailed(f"{shown(name)} is empty")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            data.madvise(mmap.MADV_RANDOM)
            try:
                yield data
            finally:
                with suppress(BufferError):  # a match that an exception holds; it goes with the process
                    data.close()

    def content(self, name: str, max_bytes: int) -> bytes:
        """All of a small file.

        Raises:
            ExtractionFailed: it has more than `max_bytes`.
        """
        with self.opened(name) as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise ExtractionFailed(f"{shown(name)} has more than {max_bytes} bytes, which it should not have")
        return content


def _raise(error: OSError) -> None:
    raise error
