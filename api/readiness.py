"""Whether everything that the API needs answers: the store, Prefect, the supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from api.supervision import Supervisor
from catchment.errors import CatchmentError
from catchment.jobs import namespaces
from catchment.jobs.launcher import Launcher
from catchment.store import Store

ANSWERS_S = 3.0
NO_RUN = "00000000-0000-0000-0000-000000000000"
"""Asking how this run is tells whether Prefect answers; there is none of that id."""


class Readiness:
    """Checks with a deadline. One that hangs is not begun again before it has ended."""

    def __init__(self, store: Store, launcher: Launcher, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._checks: dict[str, Callable[[], object]] = {
            "store": lambda: namespaces.list_all(store),
            "prefect": lambda: launcher.state(NO_RUN),
        }
        self._running: dict[str, asyncio.Future[object]] = {}

    async def reasons(self) -> dict[str, str | None]:
        """What each part lacks; None for a part that is ready."""
        names = list(self._checks)
        found = await asyncio.gather(*(self._reason(name) for name in names))
        return {**dict(zip(names, found, strict=True)), "supervisor": self._supervisor.failure}

    async def _reason(self, name: str) -> str | None:
        running = self._running.get(name)
        if running is None or running.done():
            running = self._running[name] = asyncio.ensure_future(asyncio.to_thread(self._checks[name]))
        try:
            await asyncio.wait_for(asyncio.shield(running), ANSWERS_S)
        except TimeoutError:
            return f"does not answer within {ANSWERS_S:g} s"
        except CatchmentError as error:
            return str(error)
        return None
