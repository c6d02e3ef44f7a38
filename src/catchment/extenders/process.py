"""Starting, watching and ending the child process of a job's extenders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from catchment.extenders import child
from catchment.site import limits, processes

KEPT_OUTPUT_BYTES = 16_384
_INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH")
"""All that a child sees of this process's environment: no token, no address, no secret."""
_GUARDIAN_S = 8.0
"""The guardian that has not ended so long after its lifeline closed was stopped itself."""
_MAX_RESULT_BYTES = 16 * 2**20


class Child:
    """One started call. `folder` is laid out as `catchment.extenders.child` says.

    Args:
        folder: holds call.json and script/.
        on_end: called from a thread of its own once the process has ended.
    """

    def __init__(self, folder: Path, on_end: Callable[[], object]) -> None:
        self._folder = folder
        self._on_end = on_end
        self._output = bytearray()
        self.ended = threading.Event()
        for name in (child.WORK, child.OUT):
            (folder / name).mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(Path(child.__file__).resolve()), str(folder)],
            cwd=folder / child.WORK,
            env=_environment(os.environ, folder / child.WORK),
            stdin=subprocess.PIPE,  # the guardian's lifeline: it ends all when this closes
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="extender-output", daemon=True)
        self._waiter = threading.Thread(target=self._await, name="extender-end", daemon=True)
        self._reader.start()
        self._waiter.start()

    def close(self) -> None:
        """End the process and all that it has started; nothing of it runs when this returns."""
        lifeline = self._process.stdin
        assert lifeline is not None  # noqa: S101 - asked for above
        lifeline.close()
        if not self.ended.wait(_GUARDIAN_S):
            processes.signal_all(processes.descendants(self._process.pid), signal.SIGKILL)
        processes.signal_group(self._process.pid, signal.SIGKILL)
        self._waiter.join(10)
        self._reader.join(10)

    def output(self) -> str:
        """The end of what was printed."""
        return bytes(self._output).decode(errors="replace").replace("\0", "").strip()

    def told(self) -> dict[str, Any]:
        """What the process wrote down at its end; `error` says so when it wrote nothing."""
        path = self._folder / child.RESULT
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_RESULT_BYTES:
            return {"error": f"the process ended without a usable result, with {self._ending()}"}
        told: dict[str, Any] = json.loads(path.read_bytes())
        return told

    def _ending(self) -> str:
        code = self._process.returncode
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101 - asked for above
        with pipe:
            while data := os.read(pipe.fileno(), 65536):
                self._output += data
                del self._output[:-KEPT_OUTPUT_BYTES]

    def _await(self) -> None:
        self._process.wait()
        self.ended.set()
        self._on_end()


def _environment(environ: Mapping[str, str], work: Path) -> dict[str, str]:
    kept = {name: environ[name] for name in _INHERITED if name in environ}
    # One thread: results must not depend on how many cores the machine has.
    return {**kept, **limits.thread_variables(1), "HOME": str(work), "TMPDIR": str(work)}
