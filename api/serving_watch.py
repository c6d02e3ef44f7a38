"""The thread that writes down how servings are: whenever model servers come or go, and now and then."""

from __future__ import annotations

import logging
import threading

from catchment.errors import CatchmentError
from catchment.serving.topics import ENDPOINTS
from catchment.serving.watching import look_at_all
from catchment.store import Store

log = logging.getLogger(__name__)
LOOK_S = 5.0
END_WITHIN_S = 2.0


class ServingWatch:
    """A background thread; a failure is logged, once while it lasts, and never ends it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._closing = threading.Event()
        self._said: list[str] = []
        self._thread = threading.Thread(target=self._run, name="serving-watch", daemon=True)

    def start(self) -> None:
        """Begin looking."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._closing.set()
        self._store.db.signals.arrived({ENDPOINTS})
        if self._thread.is_alive():
            self._thread.join(END_WITHIN_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            ticket = self._store.db.signals.ticket(ENDPOINTS)
            self._look()
            if not self._closing.is_set():
                self._store.db.signals.wait(ticket, LOOK_S)

    def _look(self) -> None:
        try:
            found = look_at_all(self._store)
        except CatchmentError as error:
            found = [str(error)]
        except Exception:  # the edge of a thread that must not end
            if not self._closing.is_set():
                log.exception("serving watch")
            return
        if found and found != self._said:
            log.warning("servings cannot be looked at: %s", "; ".join(found))
        self._said = found
