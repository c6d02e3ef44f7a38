"""A request's body on its way into the gateway: within its bounds, no further than it is asked for."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from catchment.errors import TooLarge

DRAIN_S = 10.0


class Incoming:
    """One request's body; used once.

    Args:
        scope: the request.
        receive: where its body comes from.
        most: bytes that it may have.

    Attributes:
        length: as the client says it; None: it does not.
        complete: whether nothing is left to be asked for.
    """

    def __init__(self, scope: Scope, receive: Receive, most: int) -> None:
        self._receive, self._most = receive, most
        self._arrived = 0
        self._waits = any(name == b"expect" for name, _ in scope["headers"])
        self.length = announced(scope)
        self.complete = self.length == 0 or scope["method"] != "POST"

    async def first(self, enough: int) -> bytes:
        """All of the body, or more than `enough` bytes of it. Raises TooLarge, ClientDisconnect."""
        if self.length is not None and self.length > self._most:
            raise self._too_large()
        if self.complete:
            return b""
        part = await self.next()
        if self.complete:
            return part
        parts = [part]
        while not self.complete and self._arrived <= enough:
            parts.append(await self.next())
        return b"".join(parts)

    async def next(self) -> bytes:
        """What comes next, while it is not complete. Raises TooLarge, ClientDisconnect."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = bytes(message.get("body", b""))
        self._arrived += len(part)
        if self._arrived > self._most:
            raise self._too_large()
        if self._arrived == self.length or not message.get("more_body", False):
            if self.length is not None and self._arrived != self.length:
                raise ClientDisconnect
            self.complete = True
        return part

    async def drain(self) -> None:
        """Read what the client sends all the same, within bounds: it hears the answer only afterwards.

        Not from one that waits for a sign before it sends.
        """
        most, size = 2 * self._most, 0
        if self._waits and not self._arrived:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while not self.complete and size <= most >= (self.length or 0):
                    message = await self._receive()
                    size += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return

    async def gone(self) -> None:
        """Wait, after the last part, until the client goes."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the request has more than {self._most} bytes, which is the most that is taken")


def announced(scope: Scope) -> int | None:
    """The body's length as the client says it, which the HTTP server has checked; None: it does not."""
    length = None
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length" and value.isdigit():
            length = int(value)
    return length
