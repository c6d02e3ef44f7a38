"""Runs a backend's child: in its environment, confined, watched, and ended as a whole."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import catchment
from catchment.errors import ConversionFailed, InvalidField, JobStopped
from catchment.formats.convert import child
from catchment.formats.convert.backend import Backend
from catchment.formats.convert.contract import JOB, RESULT, WORK, Job
from catchment.formats.convert.environments import Environment
from catchment.formats.convert.guard import Guard
from catchment.formats.convert.isolation import Isolation
from catchment.formats.convert.job_folder import WRITABLE
from catchment.site import environment, view
from catchment.site.file_tree import Place
from catchment.site.launch import Launcher
from catchment.site.launch_file import Launch, Outcome
from catchment.site.limits import Limits, data_limit_mb, thread_variables
from catchment.site.output import tail
from catchment.wire.task import TASK_VARIABLE

MAX_RESULT_BYTES = 4 * 2**20
MAX_LOG_BYTES = 1_000_000
LOG_TAIL = 4000
MAX_FILES = 100_000
"""Files and folders of one child, temporary ones included."""
_LOG = "output.log"
_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "KERAS_BACKEND": "tensorflow",
}
"""No GPU is looked for, and TensorFlow adds in one order only, so that equal runs give equal numbers. What
Keras is set to where this process runs is no business of the converter's."""


@dataclass(frozen=True)
class Bounds:
    """What one child may use.

    Attributes:
        timeout_s: by the clock.
        cpu_s: of the processor, per process.
        memory_mb: resident, of all of its processes.
        file_mb: of the largest file that it may write.
        disk_mb: of all files that it may have at a time, temporary ones included.
        target_mb: of all files that a conversion may make.
        threads: of numerical libraries.
    """

    timeout_s: float = 900.0
    cpu_s: int = 1800
    memory_mb: int = 6000
    file_mb: int = 8000
    disk_mb: int = 32_000
    target_mb: int = 16_000
    threads: int = 2


@dataclass(frozen=True)
class Told:
    """What a child has told, and how it ran.

    Attributes:
        values: of result.json.
        seconds: from start to end, the keeper's included.
        peak_mb: the most memory that the watch saw.
        log: the end of what was printed.
    """

    values: Mapping[str, Any]
    seconds: float
    peak_mb: int
    log: str = field(repr=False, default="")


class UnsupportedByBackend(ConversionFailed):
    """This backend does not know an operator of the model; the next one of the route may."""


@dataclass(frozen=True)
class Runner:
    """Starts children on this machine."""

    bounds: Bounds
    isolation: Isolation

    def run(
        self, backend: Backend, where: Environment, job: Job, cancel: threading.Event | None = None
    ) -> Told:
        """Do the job in a child and wait for its end.

        Raises:
            UnsupportedByBackend: this backend cannot, another might.
            InvalidField: a field of the input is wrong, or lacks.
            ConversionFailed: the model is refused, the converter broke, or it was ended at a limit.
            JobStopped: `cancel` was set; nothing of the child runs any more.
        """
        job.write()
        (job.folder / RESULT).unlink(missing_ok=True)
        launch = self._launch(backend, where, job)
        outcome, excess = self._outcome(launch, job.folder, cancel or threading.Event())
        words = tail(job.folder / _LOG, LOG_TAIL).strip()
        if excess:
            raise ConversionFailed(f"{backend.name}: it was ended, for {excess}", words)
        if outcome.ending == "stopped":
            raise JobStopped(f"stopped while {backend.name} was at work")
        if outcome.ending != "exited" or outcome.code:
            raise ConversionFailed(f"{backend.name}: {ending(outcome, self.bounds)}", words)
        values = _result(job.folder / RESULT, backend.name, words)
        if problem := values.get("problem"):
            raise _error(backend.name, problem, words)
        return Told(values, outcome.seconds, outcome.peak_mb, words)

    def _launch(self, backend: Backend, where: Environment, job: Job) -> Launch:
        bounds, work = self.bounds, job.folder / WORK
        memory_mb = bounds.memory_mb + backend.watch_mb
        environ = {
            **environment.isolated(os.environ, str(work)),
            **thread_variables(bounds.threads),
            **_QUIET,
            "TMPDIR": str(work),
            "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),  # else below /tmp, which is not there
            TASK_VARIABLE: str(job.folder),  # by which what a lost keeper leaves is found
        }
        box = self.isolation.box(
            (
                Place(str(job.folder / JOB), "read", str(job.folder / JOB)),
                *(Place(str(job.folder / name), "write", str(job.folder / name)) for name in WRITABLE),
                *view.read_only(job.source),
                *view.read_only(Path(catchment.__file__).parent),
                *_of_environment(where),
            ),
            base=str(work),
            shared_mb=memory_mb,
        )
        return Launch(
            argv=(str(where.python), "-I", "-B", str(Path(child.__file__).resolve()), str(job.folder)),
            script="",
            cwd=str(work),
            env=environ,
            rank_env=({},),
            timeout_s=bounds.timeout_s,
            limits=Limits(memory_mb, data_limit_mb(memory_mb, 0), bounds.file_mb, bounds.threads),
            grace_s=0.0,
            sandbox=box,
        )

    def _outcome(self, launch: Launch, folder: Path, cancel: threading.Event) -> tuple[Outcome, str]:
        """Wait for the end; also what too much of the disk it was ended for, in words."""
        if cancel.is_set():
            return Outcome("stopped"), ""
        running = Launcher().start(launch, runtime="", log=folder / _LOG, log_bytes=MAX_LOG_BYTES)
        with Guard(running, folder, self.bounds.disk_mb, MAX_FILES, cancel) as guard:
            outcome = running.wait()
        return outcome, guard.excess if outcome.ending == "stopped" else ""


def ending(outcome: Outcome, bounds: Bounds) -> str:
    """How a child ended that did not end well, in words."""
    match outcome.ending:
        case "timed_out":
            return f"it was ended after {bounds.timeout_s:g} s, the time that a conversion may take"
        case "memory":
            return f"it was ended at {outcome.used_mb} MB of memory, {bounds.memory_mb} MB are allowed"
        case "processes":
            return "it was ended, for it started too many processes"
        case "not_isolated":
            return f"it was not started, its sandbox cannot be had ({outcome.part}: {outcome.reason})"
        case "lost":
            return "its keeper was killed from outside"
        case _:
            return _by_itself(outcome.code, bounds)


def _by_itself(code: int, bounds: Bounds) -> str:
    if code in (-9, 137):
        return "it was killed (signal 9): most likely the machine was out of memory"
    if code == -24:
        return f"it was ended after {bounds.cpu_s} s of the processor"
    if code == -25:
        return f"it was ended, for it wrote a file of more than {bounds.file_mb} MB"
    if code < 0:
        return f"it crashed (signal {-code})"
    return f"it ended with exit code {code} and without a result"


def _result(path: Path, name: str, words: str) -> dict[str, Any]:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_RESULT_BYTES:
        raise ConversionFailed(f"{name}: it ended without a usable result", words)
    try:
        told = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConversionFailed(f"{name}: its result is no JSON", words) from error
    if not isinstance(told, dict):
        raise ConversionFailed(f"{name}: its result is no object", words)
    return told


def _error(name: str, problem: Any, words: str) -> Exception:
    values = problem if isinstance(problem, dict) else {}
    reason, message = values.get("reason"), str(values.get("message", "it failed"))
    if reason == "field":
        return InvalidField(str(values.get("field") or "inputs"), message)
    if reason == "unsupported":
        return UnsupportedByBackend(f"{name}: {message}", words)
    if reason == "refused":
        return ConversionFailed(message, words)
    return ConversionFailed(f"{name} failed: {message}", words)


def _of_environment(where: Environment) -> list[Place]:
    """What an interpreter needs of the file tree: its environment, and what that was made from."""
    if where.folder is None:
        return []
    real = where.python.resolve()
    return (
        [*view.read_only(where.folder), *view.read_only(real.parent.parent)]
        if real != Path(sys.executable).resolve()
        else view.read_only(where.folder)
    )
