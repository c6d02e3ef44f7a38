"""HTTP/1.1 towards model servers: heads of requests, and replies as they arrive (RFC 9112). No sockets.

Every message has one definite length here: a reply whose length could be read in two ways is refused.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from catchment.errors import InvalidField, TransferError

Headers = tuple[tuple[bytes, bytes], ...]
HEAD_BYTES = 64 << 10
LINE_BYTES = 4096
SMALL_HEAD_BYTES = 512
_HOP = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    )
)
DROPPED = _HOP | {b"host", b"content-length", b"expect", b"authorization", b"cookie", b"x-catchment-token"}
"""What of a client's request does not go on: what is between it and us, its login included."""
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n\0]*)?")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_DIGITS = re.compile(rb"[0-9]{1,18}")


def request_head(
    method: str, target: str, host: str, headers: Iterable[tuple[bytes, bytes]], length: int | None
) -> bytes:
    """The head of a request to a model server.

    Args:
        method: one of the gateway's.
        target: path and query, in printable ASCII.
        host: and port.
        headers: the client's, names in small letters.
        length: of the body; None: it goes in chunks.

    Raises:
        InvalidField: a header or the address could end its line.
    """
    lines = [f"{method} {target} HTTP/1.1\r\nhost: {host}".encode()]
    named: frozenset[bytes] = frozenset()
    kept = []
    for name, value in headers:
        if name not in DROPPED:
            kept.append((name, value))
        elif name == b"connection":
            named |= named_by(value)
    lines += [b"%b: %b" % each for each in kept if each[0] not in named]
    if length is None:
        lines.append(b"transfer-encoding: chunked")
    elif length or method == "POST":
        lines.append(b"content-length: %d" % length)
    head = b"\r\n".join((*lines, b"", b""))
    if head.count(b"\n") != len(lines) + 2 or head.count(b"\r") != len(lines) + 2 or b"\0" in head:
        raise InvalidField("headers", "must not contain line ends or NUL")
    return head


def named_by(connection: bytes) -> frozenset[bytes]:
    """Headers that a Connection header says are for the next hop only."""
    return frozenset(each.strip().lower() for each in connection.split(b",") if each.strip())


def chunk(piece: bytes) -> bytes:
    """A piece of a body that goes in chunks; an empty one would end it."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True)
class Head:
    """The head of a reply.

    Attributes:
        headers: what goes on to the client; names in small letters, Content-Length among them.
        length: of the body; None: as the server closes it, or in chunks.
    """

    status: int
    headers: Headers
    length: int | None
    chunked: bool
    keeps: bool


class ReplyReader:
    """One reply, as its bytes arrive.

    Args:
        bodiless: it answers HEAD: whatever it announces, it has no body.

    Attributes:
        head: once it is whole.
        continued: whether the server asked for the body (100 Continue).
        over: whether the reply is whole.
        begun: whether any byte of it has come.
    """

    def __init__(self, *, bodiless: bool = False) -> None:
        self.head: Head | None = None
        self.continued = self.over = self.begun = False
        self._bodiless = bodiless
        self._held = b""
        self._left: int | None = 0
        self._chunk: Literal["size", "data", "end", "trailer"] = "size"

    def feed(self, data: bytes) -> bytes:
        """Take what has arrived; what of it is body.

        Raises:
            TransferError: it is no HTTP, or bytes follow that nobody asked for.
        """
        self.begun = True
        if self.head is None:
            self._held += data
            while self.head is None:
                end = self._held.find(b"\r\n\r\n")
                if end < 0 and len(self._held) <= HEAD_BYTES:
                    return b""
                if end < 0 or end > HEAD_BYTES:
                    raise TransferError(f"a model server's reply has more than {HEAD_BYTES} bytes of headers")
                head, self._held = read_head(self._held[:end]), self._held[end + 4 :]
                self._begin(head)
            data, self._held = self._held, b""
        if self.over:
            if data:
                raise TransferError("a model server sent more than its reply")
            return b""
        return self._body(data)

    def end(self) -> None:
        """The server has closed the connection.

        Raises:
            TransferError: in the middle of its reply.
        """
        if self.over:
            return
        if self.head is None or self._left is not None or self.head.chunked:
            raise TransferError("a model server closed its connection in the middle of its reply")
        self.over = True

    def _begin(self, head: Head) -> None:
        if head.status == 100:
            self.continued = True
            return
        if head.status < 200:
            if head.status == 101:
                raise TransferError("a model server changed the protocol, which nobody asked for")
            return
        self.head = head
        self._left = head.length
        self.over = self._bodiless or head.status in (204, 304) or (head.length == 0 and not head.chunked)

    def _body(self, data: bytes) -> bytes:
        assert self.head is not None  # noqa: S101 - begun
        if self.head.chunked:
            return self._unchunk(data)
        if self._left is None:
            return data
        if len(data) > self._left:
            raise TransferError("a model server sent more than its reply")
        self._left -= len(data)
        self.over = not self._left
        return data

    def _unchunk(self, data: bytes) -> bytes:
        data, self._held = self._held + data, b""
        parts: list[bytes] = []
        at = 0
        while at < len(data) and not self.over:
            if self._chunk == "data":
                assert self._left is not None  # noqa: S101 - set with the size
                part = data[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                if not self._left:
                    self._chunk = "end"
                continue
            end = data.find(b"\r\n", at)
            if end < 0 or end - at > LINE_BYTES:
                if len(data) - at > LINE_BYTES:
                    raise TransferError("a chunk of a model server's reply has no end of line")
                self._held = data[at:]
                break
            self._line(data[at:end])
            at = end + 2
        if self.over and at < len(data):
            raise TransferError("a model server sent more than its reply")
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def _line(self, line: bytes) -> None:
        if self._chunk == "end":
            if line:
                raise TransferError("a chunk of a model server's reply is longer than it says")
            self._chunk, self._left = "size", None
        elif self._chunk == "trailer":
            self.over = not line
        else:
            size = _SIZE.fullmatch(line)
            if size is None:
                raise TransferError("a chunk of a model server's reply has no size")
            self._left = int(size[1], 16)
            self._chunk = "data" if self._left else "trailer"


def read_head(raw: bytes) -> Head:
    """A reply's head, without the empty line that ends it.

    Raises:
        TransferError: it is none, or leaves the body's length open to opinion.
    """
    return _read_again(raw) if len(raw) <= SMALL_HEAD_BYTES else _read(raw)


def _read(raw: bytes) -> Head:
    first, *lines = raw.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise TransferError("a model server's reply is no HTTP/1.1")
    pairs = [_pair(line) for line in lines]
    by_name: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        by_name.setdefault(name, []).append(value)
    lengths, codings = by_name.get(b"content-length", []), by_name.get(b"transfer-encoding", [])
    if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
        raise TransferError("a model server's reply has two lengths")
    if lengths and not _DIGITS.fullmatch(lengths[0]):
        raise TransferError("a model server's reply has a length that is no number")
    if codings and codings[0].lower() != b"chunked":
        raise TransferError("a model server's reply has a transfer coding that is not known here")
    named = named_by(b",".join(by_name.get(b"connection", [])))
    return Head(
        int(status[2]),
        tuple(each for each in pairs if each[0] not in _HOP and each[0] not in named),
        int(lengths[0]) if lengths else None,
        bool(codings),
        keeps=status[1] == b"1" and b"close" not in named,
    )


_read_again = functools.lru_cache(maxsize=512)(_read)
"""Replies to one client differ in little more than their date, which changes once a second."""


def _pair(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _NAME.fullmatch(name) or any(each in value for each in b"\r\n\0"):
        raise TransferError("a model server's reply has a header that is none")
    return name.lower(), value.strip(b" \t")
