"""The caretaker's threads: what model versions need is copied, hashed and removed, one version each."""

from __future__ import annotations

import logging
import threading
import time

from catchment.catalog.blob_uploads import collect
from catchment.catalog.care import look_after
from catchment.catalog.rows import TOPIC
from catchment.errors import CatchmentError
from catchment.store import Store

log = logging.getLogger(__name__)
THREADS = 2
"""A long copy must not hold up a short one."""
LOOK_S = 10.0
COLLECT_S = 600.0
"""So often is looked for uploads to a registry that nobody goes on with."""
END_WITHIN_S = 2.0


class Caretaker:
    """Background threads; a failure is logged, and never ends them.

    Attributes:
        failures: how many there were.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._closing = threading.Event()
        self._collect_at = 0.0
        self.failures = 0
        self._threads = [
            threading.Thread(target=self._run, name=f"caretaker-{number}", daemon=True)
            for number in range(THREADS)
        ]

    def start(self) -> None:
        """Begin looking."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End. A copy that is in progress is given up; whoever looks next begins it again."""
        self._closing.set()
        self._store.db.signals.arrived({TOPIC})
        for thread in self._threads:
            if thread.is_alive():
                thread.join(END_WITHIN_S)

    @property
    def alive(self) -> int:
        """How many of its threads run."""
        return sum(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while not self._closing.is_set():
            ticket = self._store.db.signals.ticket(TOPIC)
            if not self._look() and not self._closing.is_set():
                self._store.db.signals.wait(ticket, LOOK_S)

    def _look(self) -> bool:
        try:
            if time.monotonic() >= self._collect_at:
                self._collect_at = time.monotonic() + COLLECT_S
                collect(self._store)
            return look_after(self._store)
        except CatchmentError as error:
            self.failures += 1
            log.warning("the models cannot be looked after: %s", error)
        except Exception:  # the edge of a thread that must not end
            if not self._closing.is_set():
                self.failures += 1
                log.exception("caretaker")
        return False
