"""The API's server: aiohttp's HTTP/1.1 around the ASGI application, in this process, plain or behind TLS.

Each request carries its connection's certificate as `state["peer"]`, a `catchment.tls.peer.Peer` or None, and
the TLS context follows its files (docs/adr/0009). Requests begin in the event loop's own thread, which
saves most of what a small one costs (docs/adr/0032).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_parser import HttpRequestParser
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from starlette.types import ASGIApp

from api.exchanges import NAME, Exchange, scope_of
from api.handshake import Handshake
from api.lane import Lane
from catchment.tls.peer import Peer, peer_of

log = logging.getLogger(__name__)
IDLE_S = 300.0
"""A kept connection without a request is closed after so long."""
READ_BYTES = 1 << 20
WRITE_BYTES = 1 << 20
"""How much may be waiting in memory for one connection, either way."""
LANE_BYTES = 256 << 10
"""So much of a body that has yet to come is worth a way of its own."""
FIRST_S = 60.0
"""A connection that asks for nothing within this is closed."""
_received = memoryview(bytearray(READ_BYTES))
"""What a socket gave is copied out of here at once. One event loop serves all connections."""


class Server:
    """Serves an ASGI application; used by one event loop.

    The application's lifespan is its caller's affair.

    Args:
        app: the application.
        context: for TLS; None for plain HTTP.
    """

    def __init__(self, app: ASGIApp, context: ssl.SSLContext | None = None) -> None:
        self._app = app
        self._context = context
        self._listening: asyncio.Server | None = None
        self._http: _Http | None = None

    async def start(self, host: str, port: int, *, backlog: int = 1024) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        http = self._http = _Http(self._answer, logger=log, access_log=None)

        def connection() -> asyncio.BaseProtocol:
            made = http()
            return _Plain(made) if self._context is None else Handshake(loop, made, self._context)

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
        if connection.deadline is not None:
            connection.deadline.cancel()
        exchange = connection.exchange = Exchange(request, connection)
        try:
            await self._app(scope_of(request, connection), exchange.receive, exchange.send)
        finally:
            if connection.lane is not None:
                connection.lane.discard()
        return exchange.answer()


class _Plain(asyncio.BufferedProtocol):
    """A connection without TLS; a large body is received straight into the blocks of its lane."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lane: Lane | None = None
        self.connection_made = connection.connection_made
        self.connection_lost = connection.connection_lost
        self.pause_writing = connection.pause_writing
        self.resume_writing = connection.resume_writing
        self.eof_received = connection.eof_received

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the socket's next bytes go; asyncio fills it and tells at once how many there were."""
        lane = self._lane = self._connection.lane
        return _received if lane is None else lane.room()

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes were put there."""
        if self._lane is None:
            self._connection.data_received(bytes(_received[:nbytes]))
        else:
            self._lane.take(nbytes)


class _Http(web.Server):
    """Makes connections of our kind."""

    def __call__(self) -> Connection:
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

    __slots__ = ("deadline", "exchange", "lane", "lost", "peer", "secured")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.deadline: asyncio.TimerHandle | None = None
        self.lost = asyncio.Event()
        self.secured = False
        self.peer: Peer | None = None
        self.exchange: Exchange | None = None
        self.lane: Lane | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open; behind TLS the handshake is over."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP
        transport.set_write_buffer_limits(high=WRITE_BYTES)
        self.deadline = self._loop.call_later(FIRST_S, self.force_close)
        session = transport.get_extra_info("ssl_object")
        self.secured = session is not None
        shown = None if session is None else session.getpeercert(binary_form=True)
        if shown is not None:
            try:
                self.peer = peer_of(shown)
            except ValueError as error:
                log.warning("a verified client certificate cannot be read why=%r", str(error))
                self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone; what it sent before still counts."""
        self.lost.set()
        if self.deadline is not None:
            self.deadline.cancel()
        if self.lane is not None:
            self.lane.break_off()
        elif self.exchange is not None:
            self.exchange.rescue()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP in a sentence; what failed unseen is answered without its reason."""
        if status >= 500 or request.writer.output_size:
            return super().handle_error(request, status, exc, message)
        title = HTTPStatus(status).phrase
        # Behind its first line the parser shows the bytes, which may be those of a login.
        reason = (message or title).partition("\n")[0].rstrip(":")
        log.info("no HTTP request client=%s why=%r", request.remote, reason)
        said = {"type": "about:blank", "title": title, "status": status, "detail": reason}
        answer = web.json_response(
            said, status=status, content_type="application/problem+json", headers={"Server": NAME}
        )
        answer.force_close()
        return answer

    def open_lane(self, request: web.BaseRequest) -> Lane | None:
        """A lane for what the parser has not seen of this request's body; None where it is not worth it."""
        content = request.content
        left = (request.content_length or 0) - content.total_bytes
        # A parser that was paused, by a body or by many requests, may hold bytes back.
        held_back = self._reading_paused or self._buffer_paused
        open_ended = "Transfer-Encoding" in request.headers
        if left < LANE_BYTES or held_back or open_ended:
            return None
        if self.transport is None or content.exception() is not None:
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
