"""The agent's folder: its layout, and the lock that keeps a second agent out."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from pathlib import Path

from catchment.errors import SetupError

KEPT_LOGS = 20
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


class Home:
    """`work/` (one folder a work), `cache/`, `outbox/`, `states/`, `logs/` and the lock file `agent.lock`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.work = self.folder / "work"
        self.cache = self.folder / "cache"
        self.outbox = self.folder / "outbox"
        self.states = self.folder / "states"
        self.logs = self.folder / "logs"
        self._lock: int | None = None

    def open(self) -> None:
        """Make the folders and take the lock; the lock ends with the process, or with `close`.

        Raises:
            SetupError: another agent runs in this folder, or it cannot be written.
        """
        try:
            for folder in (self.work, self.cache, self.outbox, self.states, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            # Not inherited by children: a script that lives on must not keep the next agent out.
            self._lock = os.open(self.folder / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SetupError(f"cannot use {self.folder} as the agent's home: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise SetupError(f"another agent runs in {self.folder}; each needs a home of its own") from error

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def log_file(self, *parts: str) -> Path:
        """The file that a work's output is kept in."""
        name = "-".join(_UNSAFE.sub("_", part) for part in parts)
        return self.logs / f"{name[:200]}.log"

    def tidy_logs(self) -> None:
        """Keep the newest logs only."""
        logs = sorted(self.logs.glob("*.log"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in logs[KEPT_LOGS:]:
            path.unlink(missing_ok=True)


def folder_name(work_id: str) -> str:
    """A plain file name for a work's id: the id itself where it is one."""
    if _PLAIN.fullmatch(work_id):
        return work_id
    return "id-" + hashlib.sha256(work_id.encode()).hexdigest()[:40]


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
