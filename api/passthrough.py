"""A client of the configured registry, which requests for it are passed on with.

The caller's own Authorization goes along and nothing else proves anything: Catchment has no login there.
Bodies are streamed both ways.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDictProxy
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from yarl import URL

from api.oci_face import OWN_TOKEN
from api.transfer import PIECE_BYTES
from catchment.errors import Refused, SetupError, Unreachable
from catchment.settings import Settings

CONNECT_S = 10.0
SILENCE_S = 600.0
"""A registry may take long to check a large blob that it has just received."""
MAX_CONFIG_BYTES = 8 * 2**20
_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade"),
    )
)
_REALM = re.compile(r'(realm=")(https?)://([^/"]+)')


class Registry:
    """The registry behind this process.

    Args:
        settings: name it.
    """

    def __init__(self, settings: Settings) -> None:
        self.base = settings.registry_url.rstrip("/")
        self.host = urlsplit(self.base).netloc.rpartition("@")[2]
        aliases = (each.strip().lower() for each in settings.registry_aliases.split(","))
        self._hosts = {self.host.lower(), *aliases} - {""}
        self._tls: ssl.SSLContext | None = None
        if settings.registry_ca_file is not None:
            try:
                self._tls = ssl.create_default_context(cafile=str(settings.registry_ca_file))
            except OSError as error:
                raise SetupError(f"CATCHMENT_REGISTRY_CA_FILE cannot be read: {error}") from error
        self._session: aiohttp.ClientSession | None = None

    def ask(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        body: AsyncIterator[bytes] | bytes | None,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """One request, whose redirects are the caller's to follow. `target`: path and query as sent."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True, limit=200),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=PIECE_BYTES,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        return self._session.request(
            method,
            URL(self.base + target, encoded=True),
            headers=list(headers),
            data=body,
            allow_redirects=False,
        )

    async def blob(self, repository: str, digest: str, authorization: str | None) -> bytes:
        """A small blob, with the caller's login.

        Raises:
            Unreachable: the registry does not answer.
            Refused: it does not give it.
        """
        headers = [("Authorization", authorization)] if authorization else []
        try:
            async with self.ask("GET", f"/v2/{repository}/blobs/{digest}", headers, None) as found:
                if found.status == 307 and "Location" in found.headers:
                    return await self._elsewhere(found.headers["Location"])
                return await _small(found)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(f"the registry {self.host} does not give {digest}: {error}") from error

    async def _elsewhere(self, location: str) -> bytes:
        """What a registry leaves to its storage; nobody's login goes there."""
        assert self._session is not None  # noqa: S101 - it has just answered
        async with self._session.get(URL(location, encoded=True)) as found:
            return await _small(found)

    def towards(self, request: Request) -> list[tuple[str, str]]:
        """A request's headers as the registry gets them."""
        scheme, host = request.url.scheme, request.headers.get("host", "")
        dropped = _HOP | _named(request.headers.get("connection", ""))
        dropped |= {"host", "expect", OWN_TOKEN, "x-forwarded-host", "x-forwarded-proto"}
        kept = [(name, value) for name, value in request.headers.items() if name not in dropped]
        return [*kept, ("X-Forwarded-Host", host), ("X-Forwarded-Proto", scheme)]

    def back(self, request: Request, headers: CIMultiDictProxy[str]) -> list[tuple[bytes, bytes]]:
        """An answer's headers as the caller gets them; places at the registry are places here."""
        dropped = _HOP | _named(headers.get("connection", ""))
        if not request.url.path.startswith("/c/"):
            dropped |= {"set-cookie"}
        given = [(name.lower(), value) for name, value in headers.items() if name.lower() not in dropped]
        return [
            (name.encode("latin-1"), self._here(request, name, value).encode("latin-1"))
            for name, value in given
            if name not in ("date", "server")
        ]

    def _here(self, request: Request, name: str, value: str) -> str:
        own = f"{request.url.scheme}://{request.headers.get('host', '')}"
        if name == "location":
            parts = urlsplit(value)
            if parts.netloc.lower() in self._hosts:
                return own + value[len(f"{parts.scheme}://{parts.netloc}") :]
        if name == "www-authenticate":
            return _REALM.sub(
                lambda found: f"{found[1]}{own}" if found[3].lower() in self._hosts else found[0], value
            )
        return value

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()


class PassedOn(Response):
    """An answer of the registry, streamed to the caller."""

    def __init__(self, found: aiohttp.ClientResponse, headers: list[tuple[bytes, bytes]]) -> None:
        super().__init__(status_code=found.status)
        self.raw_headers = headers
        self._found = found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it as it comes. Breaking off is all that can be said when the registry does, half-way."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece in self._found.content.iter_any():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _small(found: aiohttp.ClientResponse) -> bytes:
    if found.status != 200:
        raise Refused(f"the registry answers {found.status}")
    data = bytearray()
    async for piece in found.content.iter_any():
        data += piece
        if len(data) > MAX_CONFIG_BYTES:
            raise Refused(f"the config has more than {MAX_CONFIG_BYTES} bytes")
    return bytes(data)


def _named(connection: str) -> set[str]:
    return {each.strip().lower() for each in connection.split(",") if each.strip()}
