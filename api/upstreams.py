"""Connections of the gateway to model servers: HTTP/1.1, kept and used again, one request at a time each."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable

from catchment.errors import TransferError
from catchment.serving.gateway.framing import Head, ReplyReader

Address = tuple[str, int]
CONNECT_S = 2.0
IDLE_S = 20.0
"""Kept connections are used again within this; servers close theirs after 30 s and more."""
MOST_KEPT = 128
"""Idle connections to one server."""
HELD_BYTES = 256 << 10
"""So much of a reply waits for its client; then the server has to."""


class Connection(asyncio.Protocol):
    """One connection; used by one request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader: ReplyReader | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._parts: deque[bytes] = deque()
        self._held = 0
        self._failure: Exception | None = None
        self._paused = False
        self.used = 0
        self.idle_since = 0.0

    @property
    def lost(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._failure is not None or self._transport is None or self._transport.is_closing()

    @property
    def begun(self) -> bool:
        """Whether a byte of the present reply has come."""
        return self._reader is not None and self._reader.begun

    @property
    def reusable(self) -> bool:
        """Whether the reply is over and the server takes another request."""
        reader = self._reader
        return (
            reader is not None
            and reader.over
            and reader.head is not None
            and reader.head.keeps
            and not self.lost
        )

    def send_head(self, data: bytes, *, bodiless: bool) -> None:
        """Begin a request with its head, and whatever of the body is there. `bodiless`: it is HEAD."""
        assert self._transport is not None  # noqa: S101 - connected
        self._reader = ReplyReader(bodiless=bodiless)
        self._parts.clear()
        self._held = 0
        self.used += 1
        self._transport.write(data)

    async def send(self, data: bytes) -> None:
        """Send more of the body, once there is room; nothing after the reply has come."""
        assert self._transport is not None  # noqa: S101 - connected
        assert self._reader is not None  # noqa: S101 - begun
        if self._writable is not None:
            await self._writable
        if self._reader.head is None and self._failure is None:
            self._transport.write(data)

    async def head(self) -> Head:
        """The reply's head. Raises OSError or TransferError."""
        reader = self._reader
        assert reader is not None  # noqa: S101 - begun
        while reader.head is None:
            await self._wait()
        return reader.head

    async def invited(self) -> bool:
        """Wait until the server asks for the body, or answers without it; whether it asks."""
        reader = self._reader
        assert reader is not None  # noqa: S101 - begun
        while reader.head is None and not reader.continued:
            await self._wait()
        return reader.head is None

    @property
    def answered(self) -> bool:
        """Whether the reply's head is there."""
        return self._reader is not None and self._reader.head is not None

    async def next(self) -> bytes:
        """The next part of the reply's body; empty at its end. Raises OSError or TransferError."""
        reader = self._reader
        assert reader is not None  # noqa: S101 - begun
        while not self._parts:
            if reader.over:
                return b""
            await self._wait()
        part = self._parts.popleft()
        self._held -= len(part)
        if self._paused and self._held < HELD_BYTES and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return part

    def unread(self, part: bytes) -> None:
        """Put a part of the body back, that `next` gives it again."""
        if part:
            self._parts.appendleft(part)
            self._held += len(part)

    @property
    def whole(self) -> bool:
        """Whether nothing of the reply has yet to arrive."""
        return self._reader is not None and self._reader.over

    def fail(self, error: Exception) -> None:
        """Break off: whoever waits is told this error."""
        if self._failure is None:
            self._failure = error
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def close(self) -> None:
        """Close it; what was sent is still delivered."""
        if self._transport is not None:
            self._transport.close()

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._writable is not None and self._failure is not None and not self._writable.done():
            self._writable.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP
        self._transport = transport
        transport.set_write_buffer_limits(high=HELD_BYTES)

    def data_received(self, data: bytes) -> None:
        """Part of a reply; anything outside of one ends the connection."""
        reader = self._reader
        if reader is None or reader.over:
            self.fail(TransferError("a model server sent what nobody asked for"))
            return
        try:
            body = reader.feed(data)
        except TransferError as error:
            self.fail(error)
            return
        if body:
            self._parts.append(body)
            self._held += len(body)
            if self._held > HELD_BYTES and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server has gone, or the reply ends with the connection."""
        if self._failure is None:
            self._failure = (
                exc if isinstance(exc, OSError) else ConnectionResetError("the model server closed")
            )
            if self._reader is not None and self._reader.begun and exc is None:
                try:
                    self._reader.end()
                except TransferError as error:
                    self._failure = error
        self._wake()

    def pause_writing(self) -> None:
        """The server takes no more for now."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """It does again."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None


class Pool:
    """Kept connections by address; used by one event loop."""

    def __init__(self) -> None:
        self._idle: dict[Address, deque[Connection]] = {}

    def kept(self, address: Address) -> Connection | None:
        """A connection that was used before; None when there is none that still works."""
        idle = self._idle.get(address)
        oldest = time.monotonic() - IDLE_S
        while idle:
            connection = idle.pop()
            if not connection.lost and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def fresh(self, address: Address) -> Connection:
        """A new connection. Raises OSError, TimeoutError for one."""
        async with asyncio.timeout(CONNECT_S):
            _, connection = await asyncio.get_running_loop().create_connection(Connection, *address)
        return connection

    def give_back(self, address: Address, connection: Connection) -> None:
        """The request is over; what can be used again is kept."""
        idle = self._idle.get(address)
        if idle is None:
            idle = self._idle[address] = deque()
        if not connection.reusable or len(idle) >= MOST_KEPT:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        idle.append(connection)

    def sweep(self, addresses: Iterable[Address]) -> None:
        """Close what has idled for long, and all to servers that are not among these."""
        here, oldest = set(addresses), time.monotonic() - IDLE_S
        for address, idle in list(self._idle.items()):
            while idle and (address not in here or idle[0].lost or idle[0].idle_since <= oldest):
                idle.popleft().close()
            if not idle:
                del self._idle[address]

    def close(self) -> None:
        """Close all."""
        self.sweep(())
