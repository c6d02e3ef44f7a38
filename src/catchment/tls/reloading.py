"""TLS contexts that follow their files: a renewed certificate counts from the next connection on."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from catchment.errors import SetupError

logger = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Of each file its time of change (ns), size and inode; None where there is none."""


class ReloadingContext:
    """A context made from files; made again by whoever asks first after they have changed."""

    def __init__(self, files: Sequence[Path], make: Callable[[], ssl.SSLContext]) -> None:
        """Make it a first time. Raises SetupError as `make` does."""
        self._files = tuple(files)
        self._make = make
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._context = make()

    def current(self) -> ssl.SSLContext:
        """The context of the files as they are; the last that worked, while they cannot be used.

        A certificate and its key are replaced one after the other, and may not fit in between.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return self._context
        with self._lock:
            if stamp != self._seen:
                self._seen = stamp
                self._reload()
            return self._context

    def _reload(self) -> None:
        try:
            self._context = self._make()
        except SetupError as error:
            logger.warning(
                "changed certificates cannot be used, the ones before still are why=%r", str(error)
            )
        else:
            logger.info("certificates were read again files=%s", ",".join(map(str, self._files)))

    def _stamp(self) -> Stamp:
        return tuple(_stamp_of(path) for path in self._files)


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
