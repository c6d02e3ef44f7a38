"""What the supervisor asks of Prefect, and how long it lets a Prefect that does not answer hold it up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from catchment.errors import Unreachable

T = TypeVar("T")
RunState = Literal[
    "waiting",
    "pending",
    "running",
    "paused",
    "cancelling",
    "cancelled",
    "completed",
    "failed",
    "crashed",
    "gone",
]
PATIENCE_S = 4.0
"""Calls of one look that came to nothing after so many seconds together are enough: the rest is not tried."""


class Launchable(Protocol):
    """What a flow run is to be made for."""

    @property
    def key(self) -> str:
        """Names this start; making a flow run twice with one key makes one run."""

    @property
    def namespace(self) -> str:
        """Whose it is; a tag of the run."""

    @property
    def deployment(self) -> str:
        """`flow/deployment`, as Prefect names it."""

    @property
    def run_name(self) -> str:
        """The run's name in Prefect."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The flow's."""


class Launcher(Protocol):
    """Makes and watches flow runs. Methods raise Unreachable when Prefect does not answer."""

    def launch(self, start: Launchable) -> str:
        """Make the flow run of a start, or find it by the start's key; its id."""

    def relaunch(self, start: Launchable, flow_run_id: str) -> str:
        """Let a lost run go on, the same one where possible; the id of the one that does."""

    def cancel(self, flow_run_id: str) -> None:
        """Have a run cancelled; one that has ended is left as it is."""

    def state(self, flow_run_id: str) -> RunState:
        """How a run is."""


@dataclass(frozen=True)
class RunSeen:
    """A flow run as Prefect shows it.

    Attributes:
        attempts: how often a process has begun with it.
        since_s: seconds since its state is what it is.
        created, started, ended: RFC 3339, or None.
    """

    id: str
    state: RunState
    message: str
    parameters: Mapping[str, Any]
    attempts: int
    since_s: float
    created: str | None = None
    started: str | None = None
    ended: str | None = None


class RunsLauncher(Launcher, Protocol):
    """Also knows runs that nothing in the store names. Methods raise Unreachable as `Launcher`'s do."""

    def find(self, flow_run_id: str, deployment: str) -> RunSeen | None:
        """A run of a deployment; None where it has none of this id."""

    def unfinished(self, deployment: str, newest_s: float) -> list[RunSeen]:
        """Runs of a deployment that are running or crashed, and were to begin within so many seconds."""

    def resume(self, flow_run_id: str) -> None:
        """Let a run go on under its id. Raises WrongState where Prefect does not let it."""


class Patient:
    """A launcher for one look at the jobs, from several threads: it gives up where Prefect hangs.

    What it does not try raises the Unreachable of the call before, so that nothing waits for it. Calls that
    are refused at once cost no time and are tried for each job.
    """

    def __init__(self, launcher: Launcher, patience_s: float = PATIENCE_S) -> None:
        self._launcher = launcher
        self._left_s = patience_s
        self._failure: Unreachable | None = None
        self._lock = threading.Lock()

    def launch(self, start: Launchable) -> str:
        """As `Launcher`."""
        return self._call(lambda: self._launcher.launch(start))

    def relaunch(self, start: Launchable, flow_run_id: str) -> str:
        """As `Launcher`."""
        return self._call(lambda: self._launcher.relaunch(start, flow_run_id))

    def cancel(self, flow_run_id: str) -> None:
        """As `Launcher`."""
        self._call(lambda: self._launcher.cancel(flow_run_id))

    def state(self, flow_run_id: str) -> RunState:
        """As `Launcher`."""
        return self._call(lambda: self._launcher.state(flow_run_id))

    def _call(self, request: Callable[[], T]) -> T:
        with self._lock:
            if self._failure is not None and self._left_s <= 0:
                raise Unreachable(str(self._failure))
        began = time.monotonic()
        try:
            return request()
        except Unreachable as error:
            with self._lock:
                self._failure = error
                self._left_s -= time.monotonic() - began
            raise
