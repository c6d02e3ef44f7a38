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
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from aiohttp.http_parser import HttpRequestParser
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from multidict import CIMultiDict
from starlette.types import ASGIApp, Message, Scope

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
BODILESS = (204, 304)


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
        assert isinstance(connection, _Connection)  # noqa: S101 - made below
        exchange = connection.exchange = _Exchange(request, connection)
        try:
            await self._app(_scope(request, connection), exchange.receive, exchange.send)
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
        return _Connection(
            self,
            loop=self._loop,
            keepalive_timeout=IDLE_S,
            read_bufsize=READ_BYTES,
            auto_decompress=False,
            **self._kwargs,
        )


class _Connection(RequestHandler):
    """One connection: who is at its other end, and whether they are still there."""

    __slots__ = ("exchange", "lane", "lost", "peer")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.lost = asyncio.Event()
        self.peer: Peer | None = None
        self.exchange: _Exchange | None = None
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


def _parser(connection: _Connection) -> HttpRequestParser:
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


def _scope(request: web.BaseRequest, connection: _Connection) -> Scope:
    path, _, query = request.raw_path.partition("?")
    raw = path.encode("utf-8", "surrogateescape")
    client, server = connection.peername, connection.sockname
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"{request.version.major}.{request.version.minor}",
        "method": request.method,
        "scheme": "https",
        "path": unquote(path),
        "raw_path": raw,
        "query_string": query.encode("utf-8", "surrogateescape"),
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": tuple(client[:2]) if client else None,
        "server": tuple(server[:2]) if server else None,
        "state": {"peer": connection.peer},
        "extensions": {},
    }


class _Exchange:
    """One request and its answer, as ASGI's two functions."""

    def __init__(self, request: web.BaseRequest, connection: _Connection) -> None:
        self._request = request
        self._connection = connection
        self._lane: Lane | None = None
        self._lost = connection.lost
        self._answer: web.StreamResponse | None = None
        self._bodiless = False
        self._begun = False
        self._read = False
        self._rescued = b""

    async def receive(self) -> Message:
        """The next part of the body; after the last one, the news that the client has gone."""
        if self._read:
            await self._lost.wait()
            return {"type": "http.disconnect"}
        part: bytes | bytearray | None
        try:
            await self._invite()
            part = await self._part()
        except (OSError, RequestPayloadError):
            part, self._rescued = self._rescued or None, b""
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": not self._read}

    async def _part(self) -> bytes | bytearray | None:
        """What has come of the body since the last time; None when the client has gone."""
        content = self._request.content
        if self._lane is None:
            self._lane = self._connection.open_lane(self._request)
            if self._lane is None:
                part = await content.readany()
                self._read = content.at_eof()
                return part
            if parsed := content.read_nowait():
                return parsed
        rest = await self._lane.next()
        self._read = self._lane.over
        return rest

    def rescue(self) -> None:
        """Keep what has arrived of the body, before aiohttp gives it up with the connection."""
        content = self._request.content
        if content.exception() is None and content.total_bytes and not content.at_eof():
            with suppress(RuntimeError):  # somebody waits for more: then there is nothing to keep
                self._rescued = content.read_nowait()

    async def _invite(self) -> None:
        """Tell a client that waits for it that its body is wanted."""
        if self._begun:
            return
        self._begun = True
        if self._request.headers.get("Expect", "").lower() == "100-continue":
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._request.writer.output_size = 0

    async def send(self, message: Message) -> None:
        """Send the head, or a part of the body; nothing to a client that has gone."""
        if message["type"] == "http.response.start":
            self._answer = web.StreamResponse(status=message["status"], headers=_headers(message))
            self._bodiless = self._request.method == "HEAD" or message["status"] in BODILESS
            return
        answer = self.answer()
        if self._lost.is_set():
            return
        body = b"" if self._bodiless else message.get("body", b"")
        try:
            await answer.prepare(self._request)
            if message.get("more_body", False):
                await answer.write(body)
            else:
                await answer.write_eof(body)
        except ConnectionError:
            log.debug("a client went away in the middle of its answer")

    def answer(self) -> web.StreamResponse:
        """The answer that was begun. Raises RuntimeError when there is none."""
        if self._answer is None:
            raise RuntimeError("the application did not answer")
        return self._answer


def _headers(message: Mapping[str, Any]) -> CIMultiDict[str]:
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
    return CIMultiDict([("Server", "catchment"), *pairs])
