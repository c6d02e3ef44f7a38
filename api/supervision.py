"""The supervisor's thread: looks after busy jobs again and again, and at once when a route asks for it."""

from __future__ import annotations

import logging
import threading
import time

from catchment.errors import Unreachable
from catchment.jobs.launcher import RunsLauncher
from catchment.jobs.supervise import supervise_once
from catchment.model_jobs.supervise import ModelJobs
from catchment.retraining import runs as retraining
from catchment.runs import supervise as runs
from catchment.serving import supervise as servings
from catchment.serving.supervise import Rollouts
from catchment.store import Store

log = logging.getLogger(__name__)
END_WITHIN_S = 2.0
RETRAINING_S = 5.0
"""How often Prefect is asked for retrainings whose process was lost."""
KINDS: tuple[runs.Kind, ...] = (ModelJobs(), Rollouts())


class Supervisor:
    """A background thread; its failures are logged and shown, and never end it."""

    def __init__(self, store: Store, launcher: RunsLauncher) -> None:
        self._store = store
        self._launcher = launcher
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._failure: str | None = None
        self._asked_at = 0.0
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin looking."""
        self._thread.start()

    def wake(self) -> None:
        """Look now: something was started, stopped or deleted."""
        self._wanted.set()

    def stop(self) -> None:
        """End, without waiting long for a look that is in progress."""
        self._closing.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(END_WITHIN_S)

    @property
    def failure(self) -> str | None:
        """What is wrong with it; None while all is well."""
        if not self._thread.is_alive():
            return "the supervisor does not run"
        return self._failure

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wanted.clear()
            self._look()
            self._wanted.wait(self._store.settings.supervise_s)

    def _look(self) -> None:
        try:
            supervise_once(self._store, self._launcher)
            for kind in KINDS:
                runs.supervise_once(self._store, self._launcher, kind)
            servings.look_after(self._store, self._launcher)
            self._look_after_retraining()
        except Exception as error:  # the edge of a thread that must not end
            if not self._closing.is_set():
                log.exception("supervisor")
                self._failure = f"the last look at the jobs failed: {type(error).__name__}: {error}"[:500]
        else:
            self._failure = None

    def _look_after_retraining(self) -> None:
        if time.monotonic() - self._asked_at < RETRAINING_S:
            return
        self._asked_at = time.monotonic()
        try:
            retraining.look_after(self._store, self._launcher)
        except Unreachable as error:
            log.warning("retraining: %s", error)  # Prefect is away; readiness says so by itself
