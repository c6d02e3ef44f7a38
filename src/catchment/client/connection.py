"""One HTTP connection to a Catchment server: JSON in, JSON out, errors of our own tree."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from catchment import __version__
from catchment.errors import CatchmentError, Forbidden, NotFound, Refused, Unauthorized, Unreachable
from catchment.hosts import PLAIN_TEXT_REFUSED, exposes_token
from catchment.tls.contexts import client_context

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
MAX_REASON_CHARACTERS = 2000


class Connection:
    """Kept open between requests, and opened again when the server has closed it meanwhile.

    Not for use by several threads at once.
    """

    def __init__(
        self,
        server: str,
        token: str | None,
        timeout_s: float,
        *,
        ca_file: Path | None = None,
        insecure_http: bool = False,
    ) -> None:
        parts = urlsplit(server)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not _port_is_fine(parts):
            raise Refused(f"{server!r} is no address of a server such as http://127.0.0.1:8080")
        if token is not None and (not token.isascii() or not token.isprintable() or " " in token):
            raise Unauthorized("the token has characters that no token has")
        if token is not None and exposes_token(server) and not insecure_http:
            raise Refused(PLAIN_TEXT_REFUSED.format(url=server))
        self.server = server.rstrip("/")
        self._base = parts.path.rstrip("/")
        self._token = token
        # urlsplit has taken the brackets off an IPv6 address, as http.client wants it.
        host, port = parts.hostname, parts.port
        self._http: http.client.HTTPConnection
        if parts.scheme == "https":
            context = client_context(ca_file)
            self._http = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
        else:
            self._http = http.client.HTTPConnection(host, port, timeout=timeout_s)

    def close(self) -> None:
        """Close the connection; the next request opens it again."""
        self._http.close()

    def json(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON; None for an empty answer.

        Raises:
            Unauthorized, NotFound, Refused: the server says so, and why.
            Unreachable: it does not answer, not in time, or not as a Catchment server does.
            CatchmentError: it has an error of its own.
        """
        status, content = self.request(method, path, body)
        if status >= 300:
            raise answered_error(status, content, f"{method} {path}")
        if not content:
            return None
        try:
            return json.loads(content)
        except ValueError:
            raise Unreachable(
                f"{self.server} answers {method} {path} without JSON; is that a Catchment server?"
            ) from None

    def request(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and content of the answer.

        Raises:
            Unreachable: there is none.
        """
        reused = self._http.sock is not None
        try:
            return self._once(method, path, body)
        except (http.client.HTTPException, OSError) as error:
            self._http.close()
            # A kept connection may have been closed by the server; that is no sign of anything.
            if reused and method in IDEMPOTENT and not isinstance(error, TimeoutError):
                return self._fresh(method, path, body)
            raise Unreachable(self._why(error)) from None

    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[bytes]:
        """Lines of a GET's answer as they arrive, without their ends; until the server ends it.

        Raises:
            Unauthorized, NotFound, Refused, CatchmentError: as `json`.
            Unreachable: there is no answer, or it broke off, or nothing came within the time-out.
        """
        try:
            with self.receiving(path, headers) as response:
                while line := response.readline():
                    yield line.rstrip(b"\r\n")
        except ValueError as error:
            raise Unreachable(self._why(error)) from None

    def send(
        self, method: str, path: str, body: memoryview | bytes | Iterator[bytes], headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send bytes; the answer's status, headers (in small letters) and content, whatever they say.

        Pieces of bytes need their Content-Length among the headers.

        Raises:
            Unreachable: there is no answer; how much was taken is not known.
        """
        try:
            self._http.request(method, self._base + path, body=body, headers={**self._headers(), **headers})
            with self._http.getresponse() as response:
                found = {name.lower(): value for name, value in response.getheaders()}
                return response.status, found, response.read()
        except (http.client.HTTPException, OSError) as error:
            self._http.close()
            raise Unreachable(self._why(error)) from None
        except BaseException:
            self._http.close()  # a request that is half sent
            raise

    def allow(self, timeout_s: float) -> None:
        """How long the server may be silent from now on."""
        self._http.timeout = timeout_s
        self._http.close()

    @contextmanager
    def receiving(
        self, path: str, headers: Mapping[str, str], *, method: str = "GET"
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request without a body, to be read in a `with` block that closes the connection.

        Raises:
            Unauthorized, NotFound, Refused, CatchmentError: as `json`.
            Unreachable: there is no answer, or it broke off.
        """
        try:
            self._http.close()
            self._http.request(method, self._base + path, headers={**self._headers(), **headers})
            with self._http.getresponse() as response:
                if response.status >= 300:
                    what = f"{method} {path.partition('?')[0]}"
                    raise answered_error(response.status, response.read(), what)
                yield response
        except (http.client.HTTPException, OSError) as error:
            raise Unreachable(self._why(error)) from None
        finally:
            self._http.close()

    def abort(self) -> None:
        """Break a request off that another thread waits in."""
        if (sock := self._http.sock) is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": f"catchment/{__version__}"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _fresh(self, method: str, path: str, body: object) -> tuple[int, bytes]:
        try:
            return self._once(method, path, body)
        except (http.client.HTTPException, OSError) as error:
            self._http.close()
            raise Unreachable(self._why(error)) from None

    def _once(self, method: str, path: str, body: object) -> tuple[int, bytes]:
        headers = self._headers()
        content = None
        if body is not None:
            content = json.dumps(body, allow_nan=False).encode()
            headers["Content-Type"] = "application/json"
        self._http.request(method, self._base + path, body=content, headers=headers)
        with self._http.getresponse() as response:
            return response.status, response.read()

    def _why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"{self.server} does not answer within {self._http.timeout:g} s"
        if isinstance(error, socket.gaierror):
            return f"{self.server}: the host name is not known"
        if isinstance(error, ConnectionRefusedError):
            return f"{self.server} does not answer: nobody listens there; is 'catchment up' running?"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"{self.server} is not who it says it is: {error.verify_message}; see --ca-file"
        return f"{self.server} does not answer: {error or type(error).__name__}"


def _port_is_fine(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def answered_error(status: int, content: bytes, what: str) -> CatchmentError:
    """What an answer's status and body mean; `what` names the request."""
    document = _document(content)
    reason = _reason(document) or f"{what} was answered with status {status}"
    match status:
        case 401:
            return Unauthorized(reason)
        case 403 if document.get("error") == Forbidden.__name__:
            return Forbidden(reason)
        case 404:
            return NotFound(reason)
        case 502 | 503 | 504:
            return Unreachable(reason)
        case _ if 300 <= status < 500:
            return Refused(reason)
        case _:
            return CatchmentError(f"the server has an error of its own: {reason}")


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _reason(document: dict[str, Any]) -> str:
    """The sentence in an error's body: `message` of the registry's shape, whose `reason` is the kind; else
    `reason` of the other documented shape, or `detail` of problem details."""
    for key in ("message", "reason", "detail", "title"):
        if isinstance(document.get(key), str) and document[key]:
            return str(document[key])[:MAX_REASON_CHARACTERS]
    return ""
