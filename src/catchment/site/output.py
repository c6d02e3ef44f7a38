"""What a script prints, kept within bounds: the head, the tail, and a word on what is missing between."""

from __future__ import annotations

import os
import threading
from pathlib import Path

_READ = 64 * 1024
_COPY = 1024 * 1024


class BoundedLog:
    """A log file of at most about `max_bytes`; the middle of more than that is dropped.

    The head is written as it comes. What follows goes round in a second file, the ring, and is
    appended when the log is closed. Memory is one buffer, whatever is printed.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._half = max(1, max_bytes // 2)
        self._head_left = self._half
        self._after_head = 0
        self._file = path.open("w+b", buffering=0)
        ring = path.with_name(path.name + ".ring")
        self._ring = ring.open("w+b", buffering=0)
        ring.unlink()  # it lives as long as it is open

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes."""
        view = memoryview(data)
        head = view[: self._head_left]
        if head:
            self._file.write(head)
            self._head_left -= len(head)
        rest = view[len(head) :]
        while rest:
            offset = self._after_head % self._half
            part = rest[: self._half - offset]
            os.pwrite(self._ring.fileno(), part, offset)
            self._after_head += len(part)
            rest = rest[len(part) :]

    def close(self) -> None:
        """Put the tail behind the head; the file is complete then."""
        dropped = max(0, self._after_head - self._half)
        if dropped:
            self._file.write(f"\n... {dropped} bytes are left out here ...\n".encode())
        begin = self._after_head % self._half if dropped else 0
        for start, end in ((begin, min(self._after_head, self._half)), (0, begin)):
            for offset in range(start, end, _COPY):
                self._file.write(os.pread(self._ring.fileno(), min(_COPY, end - offset), offset))
        self._ring.close()
        self._file.close()


class OutputReader(threading.Thread):
    """Copies a pipe into a log until all its writers have closed it."""

    def __init__(self, pipe: int, log: BoundedLog) -> None:
        super().__init__(name="output", daemon=True)
        self._pipe = pipe
        self._log = log
        self.start()

    def run(self) -> None:
        """Copy; a full disk costs the rest of the output and not the script."""
        buffer = bytearray(_READ)
        view = memoryview(buffer)
        full = False
        with os.fdopen(self._pipe, "rb", buffering=0) as pipe:
            while count := pipe.readinto(buffer):
                try:
                    if not full:
                        self._log.write(view[:count])
                except OSError:
                    full = True
        self._log.close()


def tail(path: Path, characters: int) -> str:
    """The last characters of a text file, "" when there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4 * characters))
            return file.read().decode(errors="replace").replace("\0", "")[-characters:]
    except FileNotFoundError:
        return ""
