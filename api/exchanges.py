"""One request and its answer: between aiohttp's HTTP and the ASGI application."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError
from multidict import CIMultiDict
from starlette.types import Message, Scope

from api.lane import Lane

if TYPE_CHECKING:
    from api.server import Connection

log = logging.getLogger(__name__)
BODILESS = (204, 304)
GONE = 499
NAME = "catchment"
"""Of the server, in its answers."""


def scope_of(request: web.BaseRequest, connection: Connection) -> Scope:
    """What ASGI tells the application about a request."""
    target = request.raw_path if request.raw_path[:1] in "/*" else request.rel_url.raw_path_qs
    path, _, query = target.partition("?")
    raw = path.encode("utf-8", "surrogateescape")
    client, server = connection.peername, connection.sockname
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"{request.version.major}.{request.version.minor}",
        "method": request.method,
        "scheme": "https" if connection.secured else "http",
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


class Exchange:
    """One request and its answer, as ASGI's two functions."""

    def __init__(self, request: web.BaseRequest, connection: Connection) -> None:
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
        """The answer that was begun. Raises RuntimeError when a client that is still there gets none."""
        if self._answer is None:
            if self._lost.is_set():
                return web.Response(status=GONE)  # which nobody gets
            raise RuntimeError("the application did not answer")
        return self._answer


def _headers(message: Mapping[str, Any]) -> CIMultiDict[str]:
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
    return CIMultiDict([("Server", NAME), *pairs])
