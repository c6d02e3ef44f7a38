"""The agent's side of a fork server: started, started again when it dies, left alone when it cannot run."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress

from catchment.site import environment, limits, warm

logger = logging.getLogger(__name__)

_RETRY_S = 60.0


class ForkServer:
    """One process with one framework loaded. Safe to call from several threads."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._ready = False
        self._given_up_at: float | None = None

    def start(self) -> bool:
        """Start it unless it runs; it loads in the background. False when it cannot be used now."""
        with self._lock:
            return self._started()

    def submit(self, control: socket.socket, output: int) -> bool:
        """Hand over a keeper's control socket and the output's descriptor; False: start it another way.

        A server that is still loading takes the request when it is done with that.
        """
        with self._lock:
            if not self._started() or self._socket is None:
                return False
            try:
                socket.send_fds(self._socket, [b"k"], [control.fileno(), output])
            except OSError as error:
                logger.warning("fork server refuses runtime=%s error=%s", self.runtime, error)
                return False
            return True

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the framework is loaded; False when it takes longer or has failed."""
        with self._lock:
            if not self._started() or self._socket is None:
                return False
            self._socket.settimeout(timeout_s)
            try:
                self._ready = self._ready or self._socket.recv(1) == warm.READY
            except OSError:
                return False
            finally:
                self._socket.settimeout(None)
            return self._ready

    @property
    def pid(self) -> int | None:
        """The process's id, None when none was started."""
        return self._process.pid if self._process else None

    def close(self) -> None:
        """End it; scripts that it started are their keepers' business and go on."""
        with self._lock:
            self._discard()

    def _started(self) -> bool:
        if self._process is not None and self._process.poll() is None:
            return True
        if self._process is not None:
            self._bury()
        if self._given_up_at is not None and time.monotonic() - self._given_up_at < _RETRY_S:
            return False
        ours, theirs = socket.socketpair()
        with theirs:
            command = environment.python_command(
                "-m", "catchment.site.warm", self.runtime, str(theirs.fileno())
            )
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=self._environment(),
                start_new_session=True,
            )
        self._socket, self._ready, self._given_up_at = ours, False, None
        return True

    def _bury(self) -> None:
        """Note why the last one died: one that never became ready is not worth another try at once."""
        code = self._process.returncode if self._process else 0
        if self._socket is not None and not self._ready:
            self._socket.setblocking(False)
            with suppress(OSError):
                self._ready = self._socket.recv(1) == warm.READY
        if not self._ready:
            self._given_up_at = time.monotonic()
        why = "its framework starts threads" if code == warm.MANY_THREADS else f"exit code {code}"
        logger.warning("fork server ended runtime=%s ready=%s why=%r", self.runtime, self._ready, why)
        self._discard()

    def _discard(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    @staticmethod
    def _environment() -> dict[str, str]:
        """One thread, and no GPU: a driver that was opened before a fork is of no use after it."""
        own = {name: os.environ[name] for name in ("HOME", "USER", "LOGNAME", "TMPDIR") if name in os.environ}
        # A script can read what the process that it is a fork of was started with.
        base = environment.with_python_path({**own, **environment.public(os.environ)})
        alone = {
            **limits.thread_variables(1),
            "CUDA_VISIBLE_DEVICES": "",
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        }
        return {"KERAS_BACKEND": "torch", **base, **alone}
