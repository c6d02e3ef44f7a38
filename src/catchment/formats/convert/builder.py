"""Building one environment: uv where it is there, else venv and pip; bounded in time, and cancellable."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from catchment.errors import BackendUnavailable, JobStopped
from catchment.formats.convert.backend import Backend
from catchment.site import environment, processes

_KEPT_LINES = 30
_LOOK_S = 0.2


@dataclass(frozen=True)
class Bounds:
    """Until when (time.monotonic) a build may go on, and what ends it before."""

    deadline: float
    cancel: threading.Event


def interpreter(version: str) -> Path | None:
    """A Python of this version on this machine: this process's own, or one on the PATH."""
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        own = Path(sys.base_exec_prefix) / "bin" / f"python{version}"
        return own if own.is_file() else Path(sys.executable).resolve()
    found = shutil.which(f"python{version}")
    return Path(found) if found else None


def uv() -> str | None:
    """The program uv, beside this interpreter or on the PATH."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.is_file() else shutil.which("uv")


def stopped(backend: Backend) -> JobStopped:
    """What a build raises that was cancelled."""
    return JobStopped(f"stopped while the environment of {backend.name} was built")


def build(backend: Backend, folder: Path, bounds: Bounds, progress: Callable[[str], None]) -> None:
    """Make the environment in the new folder, and try it.

    Raises:
        BackendUnavailable: a step failed or took too long; the message has its last words.
        JobStopped: it was cancelled.
    """
    python = interpreter(backend.python)
    if python is None:
        raise BackendUnavailable(backend.name, f"there is no Python {backend.python} on this machine")
    for command in commands(backend, folder, python, uv() if backend.builder == "uv" else None):
        _run(backend, command, bounds, progress)


def commands(backend: Backend, folder: Path, python: Path, with_uv: str | None) -> list[list[str]]:
    """The command lines of a build."""
    lock, inside = str(backend.lock), str(folder / "bin" / "python")
    hashed = ["--require-hashes"] if "--hash=" in backend.lock.read_text() else []
    if with_uv:
        install = [with_uv, "pip", "sync", *hashed, "--compile-bytecode", "--python", inside, lock]
        return [[with_uv, "venv", "--quiet", "--no-project", "--python", str(python), str(folder)], install]
    pip = [inside, "-I", "-m", "pip", "install", "--no-input", "--no-deps", "--disable-pip-version-check"]
    return [
        [str(python), "-I", "-m", "venv", str(folder)],
        [*pip, "--progress-bar", "off", *hashed, "-r", lock],
    ]


def _run(backend: Backend, command: Sequence[str], bounds: Bounds, progress: Callable[[str], None]) -> None:
    # The user's settings for pip and uv (indexes, proxies, certificates) hold, ours do not belong there.
    environ = {**environment.cleaned(os.environ), "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}
    environ.pop("VIRTUAL_ENV", None)
    environ.pop("PYTHONPATH", None)
    running = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environ,
        start_new_session=True,
    )
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    reader = threading.Thread(target=_read, args=(running, backend, lines, progress), daemon=True)
    reader.start()
    try:
        _wait(backend, running, bounds)
    finally:
        processes.signal_group(running.pid, signal.SIGKILL)
        running.wait()
        reader.join(10)
    if running.returncode:
        words = " ".join(lines)[-1500:] or f"exit code {running.returncode}"
        raise BackendUnavailable(backend.name, f"its environment cannot be built: {words}")


def _wait(backend: Backend, running: subprocess.Popen[str], bounds: Bounds) -> None:
    while running.poll() is None:
        if bounds.cancel.wait(_LOOK_S):
            raise stopped(backend)
        if time.monotonic() > bounds.deadline:
            raise BackendUnavailable(backend.name, "its environment took longer to build than it may")


def _read(
    running: subprocess.Popen[str], backend: Backend, lines: deque[str], progress: Callable[[str], None]
) -> None:
    assert running.stdout is not None  # noqa: S101 - asked for above
    with running.stdout as pipe:
        for line in pipe:
            if words := line.strip():
                lines.append(words)
                progress(f"{backend.name}: {words[:300]}")
