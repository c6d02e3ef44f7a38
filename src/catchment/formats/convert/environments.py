"""Environments of backends: built once from their locks, outside of the checkout, and used from there."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from catchment.errors import BackendUnavailable
from catchment.formats.convert import builder
from catchment.formats.convert.backend import Backend

Progress = Callable[[str], None]

READY = "ready.json"
"""In a finished environment: when and how it was built. It is written before the folder gets its name."""
_LOOK_S = 0.2


def silent(_: str) -> None:
    """Progress that nobody wants to hear."""


@dataclass(frozen=True)
class Environment:
    """An environment that can be used.

    Attributes:
        python: its interpreter.
        folder: None: it is this process's own.
    """

    python: Path
    folder: Path | None


@dataclass(frozen=True)
class Status:
    """Whether a backend can be used, for lists.

    Attributes:
        available: it is built, or can be.
        built: nothing has to be fetched any more.
        reason: why it is not available, or what the first use will do.
    """

    name: str
    about: str
    python: str
    available: bool
    built: bool
    reason: str


@dataclass(frozen=True)
class Environments:
    """The cache of environments of one machine; safe to use from several processes and threads.

    Args:
        folder: of the cache; made when something is built.
        build_s: seconds that one build, or the wait for another process's, may take.
        allow_builds: False: only what is there is used, such as in an image without network.
    """

    folder: Path
    build_s: float = 1800.0
    allow_builds: bool = True
    progress: Progress = field(default=silent)

    def status(self, backend: Backend) -> Status:
        """Whether the backend can be used here, and why not."""
        if self.find(backend) is not None:
            return Status(backend.name, backend.about, backend.python, True, True, "")
        reason = self._obstacle(backend)
        words = reason or "its environment is built when it is first used"
        return Status(backend.name, backend.about, backend.python, not reason, False, words)

    def find(self, backend: Backend) -> Environment | None:
        """The backend's environment, when nothing has to be built."""
        if not backend.lacking_here():
            return Environment(Path(sys.executable), None)
        place = self.place(backend)
        if backend.builder != "own" and place and (place / READY).is_file():
            return Environment(place / "bin" / "python", place)
        return None

    def place(self, backend: Backend) -> Path | None:
        """Folder of the backend's environment, named by all that it is made from; None: no interpreter."""
        if not backend.lock.is_file():
            return None
        python = builder.interpreter(backend.python)
        if python is None:
            return None
        machine = (platform.machine(), platform.libc_ver()[0])
        words = (backend.builder, backend.python, str(python), *machine)
        made_from = b"\0".join((backend.lock.read_bytes(), *(each.encode() for each in words)))
        return self.folder / f"{backend.name}-{hashlib.sha256(made_from).hexdigest()[:16]}"

    def get(self, backend: Backend, cancel: threading.Event | None = None) -> Environment:
        """The backend's environment, built first where it is not there.

        Raises:
            BackendUnavailable: it cannot be had; the reason names what lacks, with the builder's last words.
            JobStopped: `cancel` was set.
        """
        found = self.find(backend)
        if found is not None:
            return found
        if obstacle := self._obstacle(backend):
            raise BackendUnavailable(backend.name, obstacle)
        place = self.place(backend)
        assert place is not None  # noqa: S101 - an obstacle otherwise
        deadline = time.monotonic() + self.build_s
        with self._alone(backend, place, deadline, cancel or threading.Event()) as stop:
            if not (place / READY).is_file():
                self._build(backend, place, deadline, stop)
        return Environment(place / "bin" / "python", place)

    def _obstacle(self, backend: Backend) -> str:
        if not backend.lock.is_file():
            return f"its lock {backend.lock.name} is not there"
        if backend.builder == "own":
            lacking = ", ".join(backend.lacking_here())
            return f"Catchment's environment lacks {lacking}; install catchment[convert]" if lacking else ""
        if builder.interpreter(backend.python) is None:
            return f"there is no Python {backend.python} on this machine"
        return "" if self.allow_builds else "its environment is not there, and none may be built here"

    @contextmanager
    def _alone(
        self, backend: Backend, place: Path, deadline: float, cancel: threading.Event
    ) -> Iterator[threading.Event]:
        """Hold the lock of one environment: whoever comes second waits, and finds it built."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with place.with_name(f"{place.name}.lock").open("w") as file:
            waited = False
            while not _locked(file.fileno()):
                if not waited:
                    self.progress(f"{backend.name}: another process builds the environment")
                    waited = True
                if time.monotonic() > deadline:
                    raise BackendUnavailable(
                        backend.name, f"another process has built its environment for {self.build_s:g} s"
                    )
                if cancel.wait(_LOOK_S):
                    raise builder.stopped(backend)
            yield cancel

    def _build(self, backend: Backend, place: Path, deadline: float, cancel: threading.Event) -> None:
        """Build aside, then give the folder its name: what has the name is whole."""
        for left_over in self.folder.glob(f".{place.name}-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        aside = self.folder / f".{place.name}-{secrets.token_hex(4)}"
        started = time.monotonic()
        self.progress(
            f"{backend.name}: building the environment from its lock ({len(backend.pins())} packages)"
        )
        try:
            builder.build(backend, aside, builder.Bounds(deadline, cancel), self.progress)
            seconds = round(time.monotonic() - started, 1)
            facts = {"backend": backend.name, "seconds": seconds, "pins": backend.pins()}
            (aside / READY).write_text(json.dumps(facts))
            aside.rename(place)
        except (OSError, subprocess.SubprocessError) as error:
            raise BackendUnavailable(backend.name, f"its environment cannot be built: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self.progress(f"{backend.name}: the environment is ready after {seconds:g} s")


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def size_bytes(folder: Path) -> int:
    """Bytes on disk below a folder; a file with several names counts once."""
    seen = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            told = os.lstat(os.path.join(parent, name))  # noqa: PTH118
            seen[told.st_ino] = told.st_blocks * 512
    return sum(seen.values())
