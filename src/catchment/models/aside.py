"""A folder that is made aside and appears whole; what a try that broke off has left is found again."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from catchment.durable import sync_folder
from catchment.errors import AlreadyExists, BadArtifact, Refused, TransferError, Unreachable


def check_free(folder: Path) -> None:
    """Raises AlreadyExists or Refused when no folder can be made there."""
    if folder.is_dir() and folder.samefile(Path.cwd()):
        raise Refused(f"{folder} is the current folder, which cannot be replaced; name a new one")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AlreadyExists(f"there is something in {folder} already; name a new or an empty folder")


@contextmanager
def workplace(folder: Path, what: str) -> Iterator[Path]:
    """A hidden folder beside the one that is made, ours alone; what it holds stays when a transfer breaks.

    Args:
        folder: that is made.
        what: names the bytes; another try for the same ones finds what this one has left.

    Raises:
        Refused: another process works there.
        Unreachable: nothing can be written there.
    """
    work = folder.with_name(f".{folder.name[:100]}.{what}.pull")
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
        lock = (work / "lock").open("a+b")
    with lock:
        if not _locked(lock, work / "lock"):
            raise Refused(f"another pull to {folder} is at work")
        try:
            yield work
        except (BadArtifact, TransferError):
            shutil.rmtree(work)
            raise
        shutil.rmtree(work)


def _locked(lock: BinaryIO, path: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Whoever had it may have ended meanwhile, and removed it.
    return is_at(lock, path)


def appear(tree: Path, folder: Path) -> None:
    """Put the tree where it belongs: over nothing, or over an empty folder."""
    try:
        tree.rename(folder)
    except OSError as error:
        raise Refused(
            f"{folder} cannot be replaced by the model: {error.strerror}; name a new folder"
        ) from None
    sync_folder(folder.parent)


class NoSpace(Unreachable):
    """The disk takes no more bytes; what it has taken is given back."""


@contextmanager
def writing(where: Path | str) -> Iterator[None]:
    """What goes wrong while something is written, in a sentence. Raises Unreachable."""
    try:
        yield
    except OSError as error:
        raise NoSpace(f"{where} cannot be written: {error.strerror}") from error


def is_at(file: BinaryIO, path: Path) -> bool:
    """Whether this open file is the one that has the name now."""
    try:
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
