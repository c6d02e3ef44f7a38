"""TLS of a connection: says why a handshake failed, and decrypts without a new buffer for each record."""

from __future__ import annotations

import asyncio
import logging
import ssl
from asyncio.sslproto import SSLProtocol
from contextlib import suppress
from typing import Protocol

from api.lane import Lane

log = logging.getLogger(__name__)
HANDSHAKE_S = 15.0
ROOM_BYTES = 1 << 20
_encrypted = bytearray(ROOM_BYTES // 2)
_decrypted = memoryview(bytearray(ROOM_BYTES))
"""Before and after a connection's TLS; what is in them is copied at once. One event loop serves them all."""


class Secured(Protocol):
    """What is behind a handshake: an asyncio protocol that may have a lane."""

    lane: Lane | None


class Handshake(SSLProtocol):
    """What `create_server(ssl=...)` makes, but a client that is turned away hears why, and the log says so.

    asyncio (seen on 3.11) closes a connection whose handshake failed before the alert is sent.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Secured, context: ssl.SSLContext) -> None:
        super().__init__(loop, connection, context, None, server_side=True, ssl_handshake_timeout=HANDSHAKE_S)
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
