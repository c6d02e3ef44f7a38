"""The API behind TLS: aiohttp's HTTP/1.1 server around the ASGI application, in this process.

Granian verifies client certificates, but its ASGI scope does not tell which one a connection has (2.8), and
it cannot read renewed files without a restart. Here each request carries its connection's certificate as
`state["peer"]`, a `catchment.tls.peer.Peer` or None, and the context follows its files (docs/adr/0009).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from asyncio.sslproto import SSLProtocol
from contextlib import suppress
from typing import Any

from aiohttp import web
from aiohttp.http_parser import HttpRequestParser
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from starlette.types import ASGIApp

from api.exchanges import Exchange, scope_of
from api.lane import Lane
from catchment.tls.peer import Peer, peer_of

log = logging.getLogger(__name__)
HANDSHAKE_S = 15.0
IDLE_S = 300.0
"""A kept connection without a request is closed after so long."""
READ_BYTES = 1 << 20
WRITE_BYTES = 1 << 20
"""How much may be waiting in memory for one connection, either way."""
LANE_BYTES = 256 << 10
"""So much of a body that has yet to come is worth a way of its own."""
_encrypted = bytearray(READ_BYTES // 2)
_decrypted = memoryview(bytearray(READ_BYTES))
"""Before and after a connection's TLS; what is in them is copied at once. One event loop serves them all."""


class SecureServer:
    """Serves an ASGI application over TLS; used by one event loop.

    The application's lifespan is its caller's affair.
    """

    def __init__(self, app: ASGIApp, context: ssl.SSLContext) -> None:
        self._app = app
        self._context = context
        self._listening: asyncio.Server | None = None
        self._http: _Http | None = None

    async def start(self, host: str, port: int, *, backlog: int = 1024) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        http = self._http = _Http(self._answer, logger=log, access_log=None)

        def connection() -> _Handshake:
            return _Handshake(
                loop, http(), self._context, None, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )

        self._listening = await loop.create_server(connection, host, port, backlog=backlog)

    async def stop(self, grace_s: float) -> None:
        """Take no more connections; requests that run may end within `grace_s`."""
        if self._listening is None or self._http is None:
            return
        self._listening.close()
        self._http.pre_shutdown()
        await self._http.shutdown(grace_s)
        await self._listening.wait_closed()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)  # noqa: S101 - made below
        exchange = connection.exchange = Exchange(request, connection)
        try:
            await self._app(scope_of(request, connection), exchange.receive, exchange.send)
        finally:
            if connection.lane is not None:
                connection.lane.discard()
        return exchange.answer()


class _Handshake(SSLProtocol):
    """What `create_server(ssl=...)` makes, but a client that is turned away hears why, and the log says so.

    asyncio (seen on 3.11) closes a connection whose handshake failed before the alert is sent.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ssl_buffer, self._ssl_buffer_view = _encrypted, memoryview(_encrypted)

    def get_buffer(self, n: int) -> memoryview:
        """Where the socket's bytes go; asyncio takes at most 256 KiB, in a buffer for each connection."""
        return self._ssl_buffer_view

    def _fatal_error(self, exc: BaseException, message: str = "TLS failed") -> None:
        if isinstance(exc, ssl.SSLError) and self._transport is not None:
            self._process_outgoing()
            client = self._transport.get_extra_info("peername")
            log.info("a TLS connection failed client=%s why=%r", client[0] if client else "?", str(exc))
        super()._fatal_error(exc, message)

    def _do_read__copied(self) -> None:
        """Hand on what has arrived; asyncio takes a new buffer of 256 KiB for each record of 16 KiB."""
        lane = self._app_protocol.lane
        room = _decrypted if lane is None else lane.room()
        count, ended = 0, False
        with suppress(ssl.SSLWantReadError, ssl.SSLSyscallError):
            while count < len(room) and not ended:
                got = self._sslobj.read(len(room) - count, room[count:])
                count, ended = count + got, got == 0
        if count == len(room):
            self._loop.call_soon(self._do_read)
        if count:
            if lane is None:
                self._app_protocol.data_received(bytes(room[:count]))
            else:
                lane.take(count)
        if ended:
            self._call_eof_received()
            self._start_shutdown()


class _Http(web.Server):
    """Makes connections of our kind."""

    def __call__(self) -> RequestHandler:
        return Connection(
            self,
            loop=self._loop,
            keepalive_timeout=IDLE_S,
            read_bufsize=READ_BYTES,
            auto_decompress=False,
            **self._kwargs,
        )


class Connection(RequestHandler):
    """One connection: who is at its other end, and whether they are still there."""

    __slots__ = ("exchange", "lane", "lost", "peer")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.lost = asyncio.Event()
        self.peer: Peer | None = None
        self.exchange: Exchange | None = None
        self.lane: Lane | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is over."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP
        transport.set_write_buffer_limits(high=WRITE_BYTES)
        shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if shown is not None:
            try:
                self.peer = peer_of(shown)
            except ValueError as error:
                log.warning("a verified client certificate cannot be read why=%r", str(error))
                self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone; what it sent before still counts."""
        self.lost.set()
        if self.lane is not None:
            self.lane.break_off()
        elif self.exchange is not None:
            self.exchange.rescue()
        super().connection_lost(exc)

    def open_lane(self, request: web.BaseRequest) -> Lane | None:
        """A lane for what the parser has not seen of this request's body; None where it is not worth it."""
        content = request.content
        left = (request.content_length or 0) - content.total_bytes
        # A parser that was paused may hold bytes back; a body in chunks has no known length.
        held_back = self._reading_paused or "Transfer-Encoding" in request.headers
        if left < LANE_BYTES or held_back or self.transport is None or content.exception() is not None:
            return None

        def leave() -> None:
            self.lane = None
            self._parser = _parser(self)  # the one before still waits for this body
            content.feed_eof()

        self.lane = Lane(left, self._pause_transport_reading, self._resume_transport_reading, leave)
        return self.lane


def _parser(connection: Connection) -> HttpRequestParser:
    """A parser as aiohttp makes them for a connection of ours."""
    return HttpRequestParser(
        connection,
        connection._loop,
        READ_BYTES,
        max_line_size=connection.max_line_size,
        max_field_size=connection.max_field_size,
        max_headers=connection.max_headers,
        payload_exception=RequestPayloadError,
        auto_decompress=False,
        max_msg_queue_size=connection._max_msg_queue_size,
    )
