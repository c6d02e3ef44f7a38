"""Starting scripts: through a fork server where one is loaded, else by a fresh keeper process."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from catchment.site import environment, processes
from catchment.site.forkserver import ForkServer
from catchment.site.launch_file import Launch, Outcome
from catchment.site.output import BoundedLog, OutputReader
from catchment.wire.task import TASK_VARIABLE

logger = logging.getLogger(__name__)


class Script(Protocol):
    """A script that was started, wherever.

    Attributes:
        warm: it began in a process with the framework loaded.
    """

    warm: bool

    def wait(self) -> Outcome:
        """Wait for its end. Raises SiteError where nobody can tell how it was."""

    def stop(self, grace_s: float) -> None:
        """Ask it to end within `grace_s` seconds; from any thread, safe to repeat."""


class Executor(Protocol):
    """What starts scripts: processes of this machine, or pods (`catchment.site.pods`)."""

    def preload(self, runtime: str) -> None:
        """Make starts of this runtime quick, where that can be had."""

    def start(self, launch: Launch, *, runtime: str, log: Path, log_bytes: int) -> Script:
        """Start a script; its output goes to `log`, bounded. Raises SiteError."""

    def close(self) -> None:
        """End what was preloaded."""


class Running:
    """A script that was started; `wait` for it, or `stop` it from any thread."""

    def __init__(self, launch: Launch, log: Path, log_bytes: int) -> None:
        self.launch = launch
        self.warm = False
        self._lock = threading.Lock()
        self._control, self.keepers_end = socket.socketpair()
        read, self.output = os.pipe()
        self._reader = OutputReader(read, BoundedLog(log, log_bytes))
        self._lines = self._control.makefile("rb")
        self._keeper: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def start_warm(self, server: ForkServer) -> bool:
        """Let the fork server start it; False when that did not work and nothing has run."""
        if not server.submit(self.keepers_end, self.output):
            return False
        self.keepers_end.close()
        self._send(self.launch.to_json())
        self.warm = "started" in self._next()
        if not self.warm:
            self._lines.close()
            self._control.close()
            self._control, self.keepers_end = socket.socketpair()
            self._lines = self._control.makefile("rb")
        return self.warm

    def start_cold(self) -> None:
        """Start a keeper of its own for it."""
        base = environment.with_python_path(environment.cleaned(os.environ))
        descriptors = (self.keepers_end.fileno(), self.output)
        self._keeper = subprocess.Popen(
            environment.python_command("-m", "catchment.site.keeper", *map(str, descriptors)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=descriptors,
            env=base,
        )
        self.keepers_end.close()
        self._send(self.launch.to_json())
        self._next()

    def begun(self) -> None:
        """Close what only the keeper needs."""
        os.close(self.output)

    def wait(self) -> Outcome:
        """Wait for the end of the script and of its output. The keeper's deadlines bound it."""
        message = self._next()
        while message and "outcome" not in message:
            message = self._next()
        if self._keeper is not None:
            self._keeper.wait()
        if not message:
            mark = f"{TASK_VARIABLE}={self.launch.env.get(TASK_VARIABLE, '')}"
            processes.signal_all(processes.marked(mark), signal.SIGKILL)
        self._reader.join(timeout=10)
        with self._lock:
            self._lines.close()
            self._control.close()
            self._stopped = True
        return Outcome(**message["outcome"]) if message else Outcome("lost")

    def stop(self, grace_s: float) -> None:
        """Ask the keeper to end it: SIGTERM, `grace_s` seconds, SIGKILL. Safe to repeat."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._send(json.dumps({"stop": grace_s}).encode() + b"\n")

    def _send(self, line: bytes) -> None:
        try:
            self._control.sendall(line)
        except OSError as error:
            logger.debug("keeper is gone error=%s", error)

    def _next(self) -> dict[str, Any]:
        """The keeper's next message, {} when it is gone."""
        try:
            line = self._lines.readline()
        except OSError:
            line = b""
        return dict(json.loads(line)) if line else {}


class Launcher:
    """Starts scripts, and keeps one fork server per runtime."""

    def __init__(self, runtimes: Iterable[str] = ()) -> None:
        self.servers = {runtime: ForkServer(runtime) for runtime in runtimes}

    def preload(self, runtime: str) -> None:
        """Start the runtime's fork server unless it runs; it loads in the background."""
        if server := self.servers.get(runtime):
            server.start()

    def start(self, launch: Launch, *, runtime: str, log: Path, log_bytes: int) -> Running:
        """Start a script; its output goes to `log`."""
        running = Running(launch, log, log_bytes)
        server = self.servers.get(runtime)
        try:
            if not (launch.script and server and running.start_warm(server)):
                running.start_cold()
        finally:
            running.begun()
        return running

    def close(self) -> None:
        """End the fork servers."""
        for server in self.servers.values():
            server.close()
