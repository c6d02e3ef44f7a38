"""Long polls: waiting that ends when the client goes away or the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

T = TypeVar("T")


async def gone(receive: Receive) -> None:
    """Return when the client has closed its connection. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_wanted(work: Coroutine[Any, Any, T], receive: Receive, closing: asyncio.Event) -> T | None:
    """What `work` gives; None when the client went away or the server stops before it is there."""
    task = asyncio.ensure_future(work)
    ends = [asyncio.ensure_future(gone(receive)), asyncio.ensure_future(closing.wait())]
    try:
        await asyncio.wait([task, *ends], return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, *ends):
            each.cancel()
        await asyncio.gather(task, *ends, return_exceptions=True)
