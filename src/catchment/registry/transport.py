"""HTTP connections to registries, kept between requests; bodies are streamed both ways."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult

from catchment import __version__
from catchment.errors import Refused, TransferError, Unreachable
from catchment.hosts import is_loopback
from catchment.registry.addresses import address, bare, origin_of
from catchment.registry.backend import Chunk
from catchment.tls.contexts import client_context

CONNECT_S = 10.0
MAX_ANSWER_BYTES = 16 * 2**20
"""Largest answer that is no blob: pages of lists, tokens, messages of errors."""
_MAX_IDLE = 8

LOST = (OSError, http.client.HTTPException)
"""What a connection raises when it breaks, or when nothing comes in time."""


@dataclass(frozen=True)
class Body:
    """A request's body that is made while it is sent."""

    chunks: Iterator[Chunk]
    size: int


@dataclass
class Answer:
    """An answer's head; its body is to be read, or closed."""

    status: int
    headers: http.client.HTTPMessage
    url: str
    sent_authorization: str = field(repr=False)
    _response: http.client.HTTPResponse = field(repr=False)
    _release: _Release = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    """What `read` has read."""

    def header(self, name: str) -> str:
        """The header's value; empty where there is none."""
        return self.headers.get(name) or ""

    @property
    def length(self) -> int | None:
        """Bytes of the body, where the server says it."""
        given = self.header("Content-Length")
        return int(given) if given.isdecimal() else None

    def read(self, most: int = MAX_ANSWER_BYTES) -> bytes:
        """The whole body. Raises TransferError when it has more than `most` bytes."""
        try:
            data = self._response.read(most + 1)
            missing = self._response.length or 0
        finally:
            self.close()
        if len(data) > most:
            raise TransferError(f"{bare(self.url)} sends more than the {most} bytes that are expected")
        if missing:
            raise http.client.IncompleteRead(data, missing)
        self.body = data
        return data

    def readinto(self, buffer: memoryview) -> int:
        """The next bytes of the body; 0 at its end, also at one that comes too early."""
        return self._response.readinto(buffer)

    def close(self) -> None:
        """Done with it; the connection is kept when all was read."""
        whole = self._response.isclosed()
        self._response.close()
        self._release(reusable=whole and not self._response.will_close)


class Transport:
    """Sends requests. Usable by several threads; each request has a connection of its own while it lasts."""

    def __init__(self, *, ca_file: Path | None, insecure_http: bool, timeout_s: float) -> None:
        """Connections that check servers by `ca_file`, else by the system's roots.

        Args:
            ca_file: certificates in PEM.
            insecure_http: allow http to other machines.
            timeout_s: how long a server may be silent.

        Raises:
            SetupError: `ca_file` cannot be used.
        """
        self.timeout_s = timeout_s
        self.insecure_http = insecure_http
        self._context = client_context(ca_file)
        self._idle: dict[tuple[str, str, int], list[http.client.HTTPConnection]] = {}
        self._lock = threading.Lock()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Body = b"",
        *,
        answer_s: float | None = None,
    ) -> Answer:
        """Send a request. A kept connection that the server has closed meanwhile is replaced.

        Args:
            method: GET, HEAD, POST, PUT, PATCH or DELETE.
            url: http(s)://...
            headers: all but Host, User-Agent and Content-Length.
            body: what goes with it.
            answer_s: how long the answer may take once all is sent.

        Raises:
            Refused: plain http to another machine.
            Unreachable: a certificate that is not trusted.
            OSError, HTTPException: the connection broke, or was silent for too long.
        """
        parts = self._checked(url)
        origin = origin_of(parts)
        connection = self._kept(origin) if not isinstance(body, Body) else None
        if connection is not None:
            try:
                return self._exchange(connection, method, parts, headers, body, answer_s)
            except TimeoutError:
                raise
            except LOST:
                pass
        return self._exchange(self._connected(origin), method, parts, headers, body, answer_s)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        parts: SplitResult,
        headers: Mapping[str, str],
        body: bytes | Body,
        answer_s: float | None,
    ) -> Answer:
        release = _Release(self, origin_of(parts), connection)
        try:
            path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            connection.putrequest(
                method, path
            )  # with "Accept-Encoding: identity": digests are of bytes as they are
            for name, value in {"User-Agent": f"catchment/{__version__}", **headers}.items():
                connection.putheader(name, value)
            size = body.size if isinstance(body, Body) else len(body)
            if size or method in ("POST", "PUT", "PATCH"):
                connection.putheader("Content-Length", str(size))
            response = self._sent(connection, body, answer_s)
        except BaseException:
            connection.close()
            raise
        if response.length == 0:  # HEAD, 204: there is no body to wait for
            response.read()
        sent = headers.get("Authorization", "")
        return Answer(response.status, response.headers, parts.geturl(), sent, response, release)

    def _sent(
        self, connection: http.client.HTTPConnection, body: bytes | Body, answer_s: float | None
    ) -> http.client.HTTPResponse:
        try:
            connection.endheaders()
            if isinstance(body, Body):
                _send(connection, body)
            elif body:
                connection.send(body)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            # A server that has seen enough answers before the body is over, and closes.
            return connection.getresponse()
        connection.sock.settimeout(answer_s or self.timeout_s)
        response = connection.getresponse()
        if connection.sock is not None:
            connection.sock.settimeout(self.timeout_s)
        return response

    def _checked(self, url: str) -> SplitResult:
        parts = address(url)
        if parts.scheme == "http" and not self.allows_http(parts.hostname or ""):
            raise Refused(
                f"{parts.netloc.rpartition('@')[2]} would be asked without TLS; use https, or "
                "--insecure-http where the network itself is trusted"
            )
        return parts

    def _connected(self, origin: tuple[str, str, int]) -> http.client.HTTPConnection:
        scheme, host, port = origin
        connection: http.client.HTTPConnection
        if scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=CONNECT_S, context=self._context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=CONNECT_S)
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(
                f"{host}:{port} is not who it says it is: {error.verify_message}; see --ca-file"
            ) from None
        connection.sock.settimeout(self.timeout_s)
        return connection

    def allows_http(self, host: str) -> bool:
        """Whether a host may be asked without TLS."""
        return self.insecure_http or is_loopback(host)

    def speaks_tls(self, host: str, port: int | None) -> bool:
        """Whether a server answers a TLS handshake, trusted or not; without a port, whether 443 is served.

        Raises:
            OSError: nobody listens at the port that was named.
        """
        if port is None:
            try:
                return self.speaks_tls(host, 443)
            except ConnectionRefusedError:
                return False
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # nothing is sent over it
        with socket.create_connection((host, port), CONNECT_S) as plain:
            try:
                with context.wrap_socket(plain, server_hostname=host):
                    return True
            except (ssl.SSLError, ConnectionError, TimeoutError):
                return False

    def _kept(self, origin: tuple[str, str, int]) -> http.client.HTTPConnection | None:
        with self._lock:
            idle = self._idle.get(origin)
            return idle.pop() if idle else None

    def keep(self, origin: tuple[str, str, int], connection: http.client.HTTPConnection) -> None:
        """Take a connection back that is ready for the next request."""
        with self._lock:
            idle = self._idle.setdefault(origin, [])
            if len(idle) < _MAX_IDLE:
                idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle = [each for kept in self._idle.values() for each in kept]
            self._idle.clear()
        for connection in idle:
            connection.close()


class _Release:
    """Gives an answer's connection back, once."""

    def __init__(
        self, transport: Transport, origin: tuple[str, str, int], connection: http.client.HTTPConnection
    ) -> None:
        self._transport = transport
        self._origin = origin
        self._connection: http.client.HTTPConnection | None = connection

    def __call__(self, *, reusable: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if reusable:
            self._transport.keep(self._origin, connection)
        else:
            connection.close()


def _send(connection: http.client.HTTPConnection, body: Body) -> None:
    sent = 0
    while (chunk := _next(body.chunks)) is not None:
        sent += len(chunk)
        if sent > body.size:
            break
        connection.send(chunk)
    if sent != body.size:
        words = "more are given" if sent > body.size else f"{sent} are given"
        raise TransferError(f"{body.size} bytes were announced, {words}")


def _next(chunks: Iterator[Chunk]) -> Chunk | None:
    """The next chunk. A file that cannot be read is no fault of the connection."""
    try:
        return next(chunks, None)
    except OSError as error:
        raise TransferError(f"what is to be sent cannot be read: {error}") from error
