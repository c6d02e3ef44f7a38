"""Watching a child while it runs: a cancel ends it, and so does more on the disk than it may have there."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Protocol

_LOOK_S = 0.1
_MEASURE_S = 0.5
_SHARE = 20
"""Measuring takes at most one in so many seconds, however many files there are."""
_CANCEL_GRACE_S = 1.0
_MB = 1_000_000


class Stoppable(Protocol):
    """What was started (site.launch.Running)."""

    def stop(self, grace_s: float) -> None:
        """Ask for its end: a signal, `grace_s` seconds, a kill."""


class Guard:
    """A thread beside a running child; a context manager.

    Files that were deleted and are still open are not seen; the limit of a single file's size holds for them.

    Args:
        running: the child.
        folder: all that it may write lies below.
        disk_mb: how much may lie there at a time.
        max_files: how many files and folders may lie there.
        cancel: when it is set, the child is ended.

    Attributes:
        excess: in words, what the child was ended for; "" where it was not, or for the cancel.
    """

    def __init__(
        self, running: Stoppable, folder: Path, disk_mb: int, max_files: int, cancel: threading.Event
    ) -> None:
        self.excess = ""
        self._running, self._folder, self._cancel = running, folder, cancel
        self._disk_mb, self._max_files = disk_mb, max_files
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="conversion-guard", daemon=True)

    def __enter__(self) -> Guard:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)

    def _watch(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            if self._cancel.wait(_LOOK_S):
                self._running.stop(_CANCEL_GRACE_S)
                return
            began = time.monotonic()
            if began < due:
                continue
            self.excess = self._measured()
            if self.excess:
                self._running.stop(0.0)
                return
            ended = time.monotonic()
            due = ended + max(_MEASURE_S, _SHARE * (ended - began))

    def _measured(self) -> str:
        """What is too much, in words; "" while nothing is."""
        try:
            size, files = disk_use(self._folder, self._max_files)
        except OSError as error:  # a folder that hides what is in it, or lies deeper than paths reach
            return f"its files cannot be measured: {error.strerror}"
        if files > self._max_files:
            return f"it had made more than {self._max_files} files"
        if size > self._disk_mb * _MB:
            return f"its files took {-(-size // _MB)} MB of disk, {self._disk_mb} MB are allowed"
        return ""


def disk_use(folder: Path, max_files: int) -> tuple[int, int]:
    """Bytes on disk below a folder, holes not counted, and the number of files and folders there.

    It goes no further once there are more than `max_files`. What vanishes meanwhile is not counted, and links
    are not followed.

    Raises:
        OSError: something cannot be looked at.
    """
    size, files, folders = 0, 0, [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    told = entry.stat(follow_symlinks=False)
                    size, files = size + told.st_blocks * 512, files + 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    if files > max_files:
                        return size, files
        except (FileNotFoundError, NotADirectoryError):
            continue
    return size, files
