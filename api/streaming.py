"""Server-sent events: a job's log as it grows, until the job rests, the client goes or the server stops."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Iterable
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.deps import Context
from api.waiting import gone
from catchment.errors import Unauthorized, Unreachable
from catchment.jobs import log
from catchment.jobs.rows import topic

QUIET_S = 15.0
"""After so long without a line a comment is sent, so that nobody between takes the connection for dead."""
LOOK_S = 5.0
"""So often, at least, is looked whether the caller's token is still good."""
RETRY_MS = 1000
"""What browsers wait before they connect again."""


class LogStream(Response):
    """Lines of a job after a given one as events, then new ones as they are written."""

    media_type = "text/event-stream"

    def __init__(
        self,
        here: Context,
        request: Request,
        uid: str,
        after: int,
        round_number: int | None,
        site: str | None,
    ) -> None:
        super().__init__(media_type=self.media_type, headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._here = here
        self._authorization = request.headers.get("authorization")
        self._uid = uid
        self._after = after
        self._filter = {"round_number": round_number, "source": site}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream; memory is one page, whatever the log's length."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await _send(send, f"retry: {RETRY_MS}\n\n")
        ends = [asyncio.ensure_future(gone(receive)), asyncio.ensure_future(self._here.closing.wait())]
        try:
            await self._stream(send, ends)
        finally:
            for each in ends:
                each.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream(self, send: Send, ends: list[asyncio.Future[Any]]) -> None:
        """Send lines until the log is complete or one of the ends has come."""
        signals = self._here.store.db.signals
        said = time.monotonic()
        while await self._is_allowed() and not any(each.done() for each in ends):
            ticket = signals.ticket(topic(self._uid))
            try:
                page = await run_in_threadpool(
                    log.read, self._here.store, self._uid, after=self._after, **self._filter
                )
            except Unreachable:
                return  # the client connects again, and is told why where it cannot
            if page.lines:
                await _send(send, "".join(_events(page.lines)))
                said = time.monotonic()
            self._after = page.next
            if page.complete:
                await _send(send, _event("end", {"state": page.state, "reason": page.reason}))
                return
            if page.more:
                continue
            await _first_of(signals.wait_async(ticket, LOOK_S), ends)
            if time.monotonic() - said >= QUIET_S:
                await _send(send, ": nothing new\n\n")
                said = time.monotonic()

    async def _is_allowed(self) -> bool:
        """Whether the caller's token is still good: a stream must not outlive it."""
        if self._here.settings.auth == "loopback":
            return True
        try:
            await self._here.tokens.identity(self._authorization)
        except Unauthorized:
            return False
        return True


async def _first_of(wait: Coroutine[Any, Any, bool], ends: list[asyncio.Future[Any]]) -> None:
    """Wait for something new or for an end, whichever comes first."""
    task = asyncio.ensure_future(wait)
    try:
        await asyncio.wait([task, *ends], return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _send(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


def _events(lines: Iterable[dict[str, Any]]) -> Iterable[str]:
    for line in lines:
        yield _event("line", line, line["number"])


def _event(name: str, data: dict[str, Any], number: int | None = None) -> str:
    """One event; JSON holds no line ends, so the data is one line."""
    head = f"id: {number}\n" if number is not None else ""
    return f"{head}event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
