"""One HTTP connection to the coordinator, reused from request to request."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from catchment.errors import SetupError, Unreachable
from catchment.tls.contexts import client_context
from catchment.tls.reloading import ReloadingContext

CHUNK = 1024 * 1024
_CONNECT_S = 10.0

Body = bytes | memoryview


@dataclass(frozen=True)
class Endpoint:
    """Where the coordinator is and how a site shows who it is.

    Attributes:
        url: http(s)://host[:port][/prefix]
        token: bearer token; never shown by repr.
        tls: context for https, `tls_context` makes one; or one that follows its files.
    """

    url: str
    token: str = field(default="", repr=False)
    tls: ssl.SSLContext | ReloadingContext | None = None

    def parts(self) -> SplitResult:
        """The address, taken apart.

        Raises:
            SetupError: it is no http or https address.
        """
        try:
            parts = urlsplit(self.url)
            valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
        except ValueError:
            valid = None
        if not valid or parts.query or parts.fragment or parts.username:
            raise SetupError(f"{self.url!r} is no address of a server: http(s)://host:port is expected")
        return parts

    def context(self) -> ssl.SSLContext | None:
        """The TLS context of a connection that is opened now; None for the system's roots."""
        return self.tls.current() if isinstance(self.tls, ReloadingContext) else self.tls


def tls_context(
    ca_file: str | None = None, certificate: str | None = None, key: str | None = None
) -> ssl.SSLContext:
    """A context that verifies the server, and shows the site's own certificate where it has one.

    Raises:
        SetupError: a file cannot be read, or is no certificate.
    """
    paths = (Path(name) if name else None for name in (ca_file, certificate, key))
    return client_context(*paths)


class Connection:
    """Requests one after the other; used by one thread, `abort` by any."""

    def __init__(self, endpoint: Endpoint) -> None:
        parts = endpoint.parts()
        self._endpoint = endpoint
        self._host = parts.hostname or ""
        self._port = parts.port
        self._secure = parts.scheme == "https"
        self._prefix = parts.path.rstrip("/")
        self._http: http.client.HTTPConnection | None = None
        self._context: ssl.SSLContext | None = None
        self.aborted = False

    def request(
        self,
        method: str,
        path: str,
        body: Body = b"",
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float,
    ) -> http.client.HTTPResponse:
        """Send a request; the answer's body must be read before the next one.

        A kept connection may have been closed by the server in the meantime: then once more on a new
        one. All requests of the protocol are safe to repeat.

        Raises:
            Unreachable: no connection, or it broke, or no answer in time.
        """
        fresh = self._http is None
        try:
            return self._exchange(method, path, body, headers or {}, timeout_s)
        except TimeoutError as error:
            self.close()
            raise Unreachable(f"{self._endpoint.url} does not answer in time") from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if fresh or self.aborted:
                raise Unreachable(f"{self._endpoint.url}: {_words(error)}") from error
        return self.request(method, path, body, headers, timeout_s=timeout_s)

    def _exchange(
        self, method: str, path: str, body: Body, headers: Mapping[str, str], timeout_s: float
    ) -> http.client.HTTPResponse:
        connection = self._connected(timeout_s)
        if self.aborted:
            raise ConnectionAbortedError("aborted")
        connection.putrequest(method, self._prefix + path, skip_accept_encoding=True)
        if self._endpoint.token:
            connection.putheader("Authorization", f"Bearer {self._endpoint.token}")
        for name, value in headers.items():
            connection.putheader(name, value)
        if body or method in ("POST", "PUT"):
            connection.putheader("Content-Length", str(len(body)))
        try:
            connection.endheaders()
            for part in _parts(body):
                connection.send(part)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            # A server that has seen enough may answer before the body is over, and close; one that does not
            # like our certificate has sent an alert by now, which says why.
            return connection.getresponse()
        return connection.getresponse()

    def _connected(self, timeout_s: float) -> http.client.HTTPConnection:
        context = self._endpoint.context()
        if context is not self._context:
            self.close()  # the certificates were renewed: show and expect the new ones
            self._context = context
        # http.client drops its socket after an answer with "Connection: close"; proxies like to send one.
        if self._http is None or self._http.sock is None:
            if self._secure:
                self._http = http.client.HTTPSConnection(
                    self._host, self._port, timeout=_CONNECT_S, context=context or tls_context()
                )
            else:
                self._http = http.client.HTTPConnection(self._host, self._port, timeout=_CONNECT_S)
            self._http.connect()
        self._http.sock.settimeout(timeout_s)
        return self._http

    def abort(self) -> None:
        """Wake up whoever waits for an answer, with Unreachable; so ends every request until `rearm`."""
        self.aborted = True
        connection = self._http
        sock = connection.sock if connection else None
        if sock is not None:
            # The plain socket's method: the one of a TLS socket pulls the rug from under its reader.
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def rearm(self) -> None:
        """Allow requests again after an abort."""
        self.aborted = False

    def close(self) -> None:
        """Close; the next request opens a new connection."""
        if self._http is not None:
            self._http.close()
            self._http = None


def _parts(body: Body) -> Iterator[memoryview]:
    """The body in pieces that a TLS socket takes well, without a copy."""
    view = memoryview(body)
    for start in range(0, len(view), CHUNK):
        yield view[start : start + CHUNK]


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
