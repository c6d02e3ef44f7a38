"""The gateway's routing table in memory, as new as the store's signals make it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from catchment.errors import CatchmentError
from catchment.serving.gateway import table
from catchment.serving.gateway.table import Route, Table
from catchment.serving.topics import ENDPOINTS, ROUTES, WORKLOADS
from catchment.store import Store

log = logging.getLogger(__name__)
LOOK_S = 5.0
"""Without any signal it looks so often."""
APART_S = 0.02
"""Looks are never closer to each other, however many signals there are."""
HOLD_S = 1.5
"""A request whose servers have all just gone waits so long for the table to name others."""
FRESH_S = 3.0
"""A request waits no longer for a look."""


class Routing:
    """The table; used by one event loop.

    While the store does not answer, the last table counts: servings go on without it.

    Args:
        store: where it is read.
        changed: called with each new table.
    """

    def __init__(self, store: Store, changed: Callable[[Table], None]) -> None:
        self._store = store
        self._changed = changed
        self._table = Table()
        self._looking = asyncio.Lock()
        self._news = asyncio.Event()
        self._began = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow the store."""
        self._task = asyncio.ensure_future(self._follow())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def find(self, namespace: str, name: str) -> Route | None:
        """A serving's route as it is known now."""
        return self._table.find(namespace, name)

    async def fresh(self, namespace: str, name: str) -> Route | None:
        """The route by a look that begins now, or the last one while the store does not answer."""
        asked = time.monotonic()
        try:
            async with asyncio.timeout(FRESH_S), self._looking:
                if self._began <= asked:
                    await self._look()
        except TimeoutError:
            log.warning("the routing table of servings could not be read within %g s", FRESH_S)
        return self.find(namespace, name)

    async def news(self) -> None:
        """Wait until the table is read again."""
        await self._news.wait()

    async def _follow(self) -> None:
        signals = self._store.db.signals
        while True:
            ticket = signals.ticket(ROUTES, ENDPOINTS, WORKLOADS)
            async with self._looking:
                await self._look()
            await signals.wait_async(ticket, LOOK_S)
            await asyncio.sleep(APART_S)

    async def _look(self) -> None:
        self._began = time.monotonic()
        try:
            found = await asyncio.to_thread(self._store.db.read, table.read)
        except CatchmentError as error:
            log.warning("the routing table of servings stays as it was: %s", error)
            return
        except Exception:  # the edge of a task that must not end
            log.exception("the routing table of servings")
            return
        self._table = found
        self._news.set()
        self._news = asyncio.Event()
        self._changed(found)
