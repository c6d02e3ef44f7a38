"""Large bodies: files down with ranges, chunks up; never more than a piece of them in memory.

Pieces of 1 MiB serve whole files and ranges alike; with 64 KiB the same 500 MB took three times as long.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.errors import answer
from api.uploading import DIGEST, Part, announced_part
from api.waiting import gone
from catchment.errors import InvalidField, TransferError
from catchment.store.batch import Piece

PIECE_BYTES = 1 << 20
CHUNK_S = 60.0
"""A client that sends nothing for so long is given up."""
DRAIN_BYTES = 32 << 20
DRAIN_S = 10.0
_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")


class RangedResponse(Response):
    """Bytes of known size that never change, named by a digest: whole, one range of them, or only headers.

    Args:
        size: bytes of all of it.
        digest: the same digest, the same bytes; it becomes the ETag.
        media_type: of the answer.
        more: further headers.
    """

    def __init__(
        self,
        size: int,
        digest: str,
        media_type: str = "application/octet-stream",
        more: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(media_type=media_type)
        self._size = size
        self._etag = f'"{digest}"'
        self._more = dict(more or {})

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Callable[[int, int], AsyncIterator[bytes]]]:
        """What gives the bytes of a range, in pieces; opened before the answer begins."""
        raise NotImplementedError
        yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        request = Request(scope)
        common = {"ETag": self._etag, "Accept-Ranges": "bytes", "Cache-Control": "private, immutable"}
        common |= self._more
        if _matches(request.headers.get("if-none-match", ""), self._etag):
            await Response(status_code=304, headers=common)(scope, receive, send)
            return
        span = self._span(request)
        if span is None:
            headers = {**common, "Content-Range": f"bytes */{self._size}"}
            refusal = answer(scope, 416, f"there are {self._size} bytes", headers=headers)
            await refusal(scope, receive, send)
            return
        start, stop = span
        partial = stop - start < self._size
        headers = {**common, "Content-Length": str(stop - start), "Content-Type": str(self.media_type)}
        if partial:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{self._size}"
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        async with self._opened() as pieces:
            await send({"type": "http.response.start", "status": 206 if partial else 200, "headers": raw})
            if scope["method"] == "HEAD" or start == stop:
                await send({"type": "http.response.body", "body": b""})
            else:
                await _send_all(pieces(start, stop), stop - start, receive, send)

    def _span(self, request: Request) -> tuple[int, int] | None:
        """First byte and the one after the last; None when the range lies outside.

        What is no single range of bytes is ignored, as RFC 9110 allows.
        """
        found = _RANGE.fullmatch(request.headers.get("range", "").strip())
        if found is None or request.headers.get("if-range", self._etag) != self._etag:
            return 0, self._size
        first, last, suffix = found.groups()
        start = max(0, self._size - int(suffix)) if suffix else int(first)
        stop = min(self._size, int(last) + 1) if last else self._size
        if last and int(last) < start:
            return 0, self._size
        return (start, stop) if start < self._size and suffix != "0" else None


class BlobResponse(RangedResponse):
    """A file; it is opened once, so that it may be deleted meanwhile.

    Args:
        path: the file.
        size: its bytes.
        digest: theirs.
        more: further headers.
        over: called when the answer is over, however it ends.
    """

    def __init__(
        self,
        path: Path,
        size: int,
        digest: str,
        *,
        more: Mapping[str, str] | None = None,
        over: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(size, digest, more=more)
        self._path = path
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._over is not None:
                await asyncio.to_thread(self._over)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Callable[[int, int], AsyncIterator[bytes]]]:
        descriptor = await asyncio.to_thread(os.open, self._path, os.O_RDONLY)

        async def pieces(start: int, stop: int) -> AsyncIterator[bytes]:
            while start < stop:
                size = min(PIECE_BYTES, stop - start)
                piece = await asyncio.to_thread(os.pread, descriptor, size, start)
                start += len(piece)
                yield piece

        try:
            yield pieces
        finally:
            os.close(descriptor)


class Ranged(Protocol):
    """Bytes of known size, any range of which can be given."""

    size: int

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`, in pieces."""


class MadeResponse(RangedResponse):
    """Bytes that are made on the way, such as a zip of files that lie apart."""

    def __init__(
        self, source: Ranged, digest: str, media_type: str, more: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(source.size, digest, media_type, more)
        self._source = source

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Callable[[int, int], AsyncIterator[bytes]]]:
        async def pieces(start: int, stop: int) -> AsyncIterator[bytes]:
            made = self._source.read(start, stop)
            while piece := await asyncio.to_thread(next, made, b""):
                yield piece

        yield pieces


async def _send_all(pieces: AsyncIterator[bytes], size: int, receive: Receive, send: Send) -> None:
    """Send `size` bytes, unless the client goes away."""
    away = asyncio.ensure_future(gone(receive))
    try:
        async for piece in pieces:
            if not piece or away.done():
                break
            size -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": size > 0})
        if size and not away.done():
            raise TransferError("there are fewer bytes than was said")
    finally:
        away.cancel()
        await asyncio.gather(away, return_exceptions=True)


def _matches(header: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return etag in tags or "*" in tags


def announced(request: Request) -> Part:
    """The chunk that a request of the exchange carries; all of its headers are needed.

    Raises:
        InvalidField: a header is missing, malformed, or contradicts another.
    """
    if "content-range" not in request.headers:
        raise InvalidField("Content-Range", "must be 'bytes FIRST-LAST/TOTAL'")
    part = announced_part(request)
    digest = request.headers.get("update-digest", "").strip()
    if not DIGEST.fullmatch(digest):
        raise InvalidField("Update-Digest", "must be 'sha256:' and 64 hexadecimal digits")
    return replace(part, digest=digest)


async def pieces(arriving: AsyncIterator[Piece], chunk: Part) -> AsyncIterator[Piece]:
    """The request's body as it arrives, with a deadline for each piece.

    Raises:
        TransferError: it stops coming.
        InvalidField: more comes than was announced.
    """
    left = chunk.stop - chunk.start
    over = False
    while not over:
        arrived: list[Piece] = []
        problem: Exception | None = None
        try:
            # Entered once for many small arrivals: the server hands them over as they come from the socket.
            async with asyncio.timeout(CHUNK_S) as limit:
                over = await _gather(arriving, arrived, limit)
        except ClientDisconnect:
            problem = TransferError("the connection ended before the chunk did")
        except TimeoutError:
            problem = TransferError(f"nothing arrived for {CHUNK_S:g} s")
        left -= sum(map(len, arrived))
        if left < 0:
            raise InvalidField("Content-Range", "more bytes arrive than it announces")
        for piece in arrived:
            yield piece
        if problem is not None:
            raise problem


async def _gather(arriving: AsyncIterator[Piece], arrived: list[Piece], limit: asyncio.Timeout) -> bool:
    """Take about PIECE_BYTES of what arrives; whether that was all."""
    count = 0
    while count < PIECE_BYTES:
        piece = await anext(arriving, None)
        if piece is None:
            return True
        count += len(piece)
        arrived.append(piece)
        limit.reschedule(asyncio.get_running_loop().time() + CHUNK_S)
    return False


async def drain(arriving: AsyncIterator[Piece]) -> None:
    """Read what a refused body still has, within reason: who is cut off may never see the refusal."""
    left = DRAIN_BYTES
    with suppress(ClientDisconnect, TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            async for piece in arriving:
                left -= len(piece)
                if left < 0:
                    return
