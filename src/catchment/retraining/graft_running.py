"""Grafting in a confined child process: what a graph's file does, it does to that process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import IO

from catchment.errors import BadArtifact, CatchmentError, TensorMismatch
from catchment.formats.extract.running import Limits, environment
from catchment.site import processes

_ENTRY = Path(__file__).with_name("graft_child.py")
_BOUNDS = Limits(memory_mb=4096, cpu_s=300, time_s=600.0)
_KINDS = {kind.__name__: kind for kind in (BadArtifact, TensorMismatch)}
_SAID_BYTES = 16_384


def run_graft(model: Path, weights: Path, target: Path, keep: Collection[str] = ()) -> None:
    """Write `model` with the weights in it to the new file `target`.

    Raises:
        BadArtifact: the model is no ONNX file, damaged, or took more than it may.
        TensorMismatch: names, shapes or dtypes differ.
    """
    order = json.dumps({**asdict(_BOUNDS), "parent": os.getpid(), "keep": list(keep)})
    process = subprocess.Popen(
        [sys.executable, "-I", "-B", str(_ENTRY), str(model.absolute()), str(weights.absolute()), order],
        cwd="/",
        env=environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    said: list[bytes] = []
    assert process.stdout is not None  # noqa: S101 - asked for
    assert process.stderr is not None  # noqa: S101 - asked for
    listener = threading.Thread(target=_listen, args=(process.stderr, said), daemon=True)
    timer = threading.Timer(_BOUNDS.time_s, processes.signal_group, (process.pid, signal.SIGKILL))
    timer.start()
    try:
        listener.start()
        with target.open("wb") as file:
            shutil.copyfileobj(process.stdout, file, 1 << 20)
        process.wait()
        listener.join()
    finally:
        timer.cancel()
        with contextlib.suppress(ProcessLookupError):
            processes.signal_group(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()
    if process.returncode:
        target.unlink(missing_ok=True)
        raise _error(process.returncode, b"".join(said))


def _listen(pipe: IO[bytes], said: list[bytes]) -> None:
    """Read to the end, keep the last part."""
    for line in pipe:
        said.append(line[:_SAID_BYTES])
        del said[:-20]


def _error(code: int, said: bytes) -> CatchmentError:
    if code < 0:
        name = signal.Signals(-code).name
        return BadArtifact(f"the process that put the weights into the graph ended with {name}")
    lines = said.decode(errors="replace").strip().splitlines()
    kind, _, problem = (lines[-1] if lines else "").partition(": ")
    return _KINDS.get(kind, BadArtifact)(problem or f"the graph could not be read (code {code})")
