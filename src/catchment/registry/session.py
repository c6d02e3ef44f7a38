"""Requests to one registry: logged in, redirected, tried again, and refused in our own errors."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from catchment.errors import CatchmentError, NotFound, Refused, Unauthorized, Unreachable
from catchment.registry.addresses import address, bare, origin_of
from catchment.registry.answers import PASSING, error_of, lost
from catchment.registry.auth import Authorizer, Scopes
from catchment.registry.credentials import Credentials
from catchment.registry.patience import Patience, Trials, retry_after_s
from catchment.registry.references import check_host
from catchment.registry.transport import LOST, MAX_ANSWER_BYTES, Answer, Body, Transport

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5


class Session:
    """One registry, as one user. Usable by several threads."""

    def __init__(
        self,
        host: str,
        credentials: Credentials | None = None,
        *,
        ca_file: Path | None = None,
        insecure_http: bool = False,
        timeout_s: float = 60.0,
        patience: Patience | None = None,
    ) -> None:
        """A session; nothing is asked yet.

        Args:
            host: host[:port].
            credentials: who we are.
            ca_file: certificates (PEM) that the server's is checked against; otherwise the system's.
            insecure_http: allow plain http to other machines than this one.
            timeout_s: how long the registry may be silent.
            patience: how often it is asked again.

        Raises:
            InvalidField: `host` is none.
            SetupError: `ca_file` cannot be used.
        """
        self.host = check_host(host)
        self.patience = patience or Patience()
        self.credentials = credentials
        self.transport = Transport(ca_file=ca_file, insecure_http=insecure_http, timeout_s=timeout_s)
        self.authorizer = Authorizer(credentials, self._token)
        self._base = ""
        self._lock = threading.Lock()

    def base(self) -> str:
        """The registry's address. Plain http only where it is allowed and TLS is not spoken.

        Raises:
            OSError: nobody listens there.
        """
        with self._lock:
            if not self._base:
                parts = urlsplit(f"http://{self.host}")
                host = parts.hostname or ""
                secure = not self.transport.allows_http(host) or self.transport.speaks_tls(host, parts.port)
                self._base = f"{'https' if secure else 'http'}://{self.host}"
            return self._base

    def request(
        self,
        method: str,
        path: str,
        scopes: Scopes,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        accept: Collection[int] = (200,),
        most: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """The answer to a request that is safe to repeat, with its body; its status is one of `accept`.

        Args:
            method: GET, HEAD, POST, PUT or DELETE.
            path: /v2/..., or an address that the registry gave.
            scopes: what the token must allow, where tokens are wanted.
            what: the request in words, for errors.
            headers: further headers.
            body: what goes with it.
            accept: statuses that are fine.
            most: largest body of the answer.

        Raises:
            Unauthorized, Forbidden, NotFound, Refused, TransferError: the registry says so.
            RateLimited, Unreachable: it does not answer, or fails, for longer than there is patience.
        """
        return self._tried(
            lambda: self.once(method, path, scopes, headers=headers, body=body), accept, what, most
        )

    def open(
        self,
        method: str,
        path: str,
        scopes: Scopes,
        what: str,
        headers: Mapping[str, str],
        accept: Collection[int],
    ) -> Answer:
        """As `request`, with the body unread; the answer is to be closed."""
        return self._tried(lambda: self.once(method, path, scopes, headers=headers), accept, what, None)

    def _tried(
        self, send: Callable[[], Answer], accept: Collection[int], what: str, most: int | None
    ) -> Answer:
        trials = Trials(self.patience)
        while True:
            try:
                answer = send()
                if answer.status in accept:
                    if most is not None:
                        answer.read(most)
                    return answer
            except LOST as fault:
                error: CatchmentError = lost(fault, self.host)
                if isinstance(fault, socket.gaierror) and fault.errno != socket.EAI_AGAIN:
                    raise error from None
                trials.failed(error)
                continue
            error = self.error(answer, what)
            if answer.status not in PASSING:
                raise error
            trials.failed(error, retry_after_s(answer.header("Retry-After")))

    def once(
        self,
        method: str,
        path: str,
        scopes: Scopes,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body = b"",
        answer_s: float | None = None,
    ) -> Answer:
        """One try. After a 401, once more as the registry demands it, if the body can be sent again.

        Raises:
            OSError, HTTPException: the connection broke.
            Unauthorized, Forbidden, Unreachable: the token issuer gives no token.
        """
        url = self.absolute(path)
        given = dict(headers or {})
        answer = self._signed(method, url, scopes, given, body, answer_s)
        if answer.status != 401 or isinstance(body, Body) or "Authorization" in given:
            return answer
        if self.challenged(answer, scopes):
            answer.read()
            answer = self._signed(method, url, scopes, given, body, answer_s)
        return answer

    def _signed(
        self,
        method: str,
        url: str,
        scopes: Scopes,
        headers: Mapping[str, str],
        body: bytes | Body,
        answer_s: float | None,
    ) -> Answer:
        """Send it with what the registry wants to see, unless the caller has said who we are."""
        used = {} if "Authorization" in headers else self._authorization(url, scopes)
        return self._followed(method, url, {**headers, **used}, body, answer_s)

    def challenged(self, answer: Answer, scopes: Scopes) -> bool:
        """Take in what a 401 demands; whether it makes sense to ask again."""
        if not self._is_ours(answer.url):
            return False
        demands = answer.headers.get_all("WWW-Authenticate") or []
        return self.authorizer.challenged(demands, scopes, answer.sent_authorization)

    def error(self, answer: Answer, what: str) -> CatchmentError:
        """The error that an answer is; its body is read, secrets are taken out of it."""
        hidden = self.authorizer.secrets()
        return error_of(answer, what, self.host, hidden, has_login=self.credentials is not None)

    def absolute(self, location: str) -> str:
        """An address that the registry gave, relative ones too; TLS is not dropped on the way.

        A registry behind a proxy may not know that it is asked by https, and names itself with http.
        """
        base = self.base()
        ours, parts = urlsplit(base), address(location, base + "/")
        if parts.hostname == ours.hostname and (ours.scheme, parts.scheme) == ("https", "http"):
            return parts._replace(scheme="https", netloc=ours.netloc).geturl()
        return parts.geturl()

    def close(self) -> None:
        """Close idle connections."""
        self.transport.close()

    def _authorization(self, url: str, scopes: Scopes) -> dict[str, str]:
        value = self.authorizer.header(scopes) if self._is_ours(url) else ""
        return {"Authorization": value} if value else {}

    def _is_ours(self, url: str) -> bool:
        return origin_of(address(url)) == origin_of(urlsplit(self.base()))

    def _followed(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Body,
        answer_s: float | None,
    ) -> Answer:
        """The answer after redirects; what shows who we are goes to the registry alone."""
        for _ in range(_MAX_REDIRECTS):
            answer = self.transport.send(method, url, headers, body, answer_s=answer_s)
            target = answer.header("Location")
            if answer.status not in _REDIRECTS or method not in ("GET", "HEAD") or not target:
                return answer
            answer.close()
            here, there = urlsplit(url), address(target, url)
            if here.scheme == "https" and there.scheme == "http" and not self.transport.insecure_http:
                raise Unreachable(
                    f"{self.host} redirects to {bare(there.geturl())}, which is not secured by TLS"
                )
            if origin_of(there) != origin_of(here):
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = there.geturl()
        raise Unreachable(f"{self.host} redirects without an end")

    def _token(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """Ask the token issuer; it is another server, and sees the login, for that is how it is meant."""
        what = f"asking {bare(url)} for a token"
        try:
            answer = self._tried(
                lambda: self.transport.send(method, url, headers, body), (200,), what, MAX_ANSWER_BYTES
            )
        except (NotFound, Refused) as error:
            raise Unauthorized(str(error)) from None
        return answer.body
