"""Slow calls in threads beside the event loop, never left alone: a cancelled caller waits for their end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run in a thread that is waited for even when the request is cancelled: it holds the request's file."""
    return await _settled(_started(function, *args, **kwargs))


class OneBehind:
    """Runs one thing at a time in a thread, while its user goes on; on leaving the last one is over."""

    def __init__(self) -> None:
        self._running: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def run(self, function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Begin it when the one before has ended. Raises what that one raised."""
        await self._end()
        self._running = _started(function, *args, **kwargs)

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await _settled(running)


def _started(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    # No task: those are cancelled when the loop ends, and what is left in the thread would not be waited for.
    return asyncio.get_running_loop().run_in_executor(None, functools.partial(function, *args, **kwargs))


async def _settled(running: asyncio.Future[T]) -> T:
    try:
        return await asyncio.shield(running)
    finally:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
