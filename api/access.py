"""Who may call: loopback without a login but safe from rebinding, or bearer tokens with roles."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import answer
from catchment.access import Identity, identify
from catchment.errors import Unauthorized
from catchment.hosts import is_loopback
from catchment.store import Store

KEEP_S = 5.0
MAX_KEPT = 10_000
LOCAL_ADMIN = Identity(role="admin")


@functools.lru_cache(maxsize=256)
def _host_of(authority: str) -> str:
    """The host of `host:port`; "" when it is none, or carries more than that."""
    if set(authority) & set("@/\\?# \t"):
        return ""
    try:
        parts = urlsplit(f"//{authority}")
        _ = parts.port  # raises for what is no port
    except ValueError:
        return ""
    return parts.hostname or ""


def _is_local_origin(origin: str) -> bool:
    scheme, separator, authority = origin.partition("://")
    return bool(separator) and scheme in ("http", "https") and is_loopback(_host_of(authority))


class LoopbackOnly:
    """Middleware against DNS rebinding and foreign pages: without a login, only this machine's names count.

    A page of another origin can make a browser on this machine send requests here; it can neither forge
    the Host that its own name resolves from, nor hide its Origin.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = None
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            reason = foreign(headers.getlist("host"), headers.getlist("origin"))
        if reason is None:
            await self._app(scope, receive, send)
        else:
            await answer(scope, 403, reason)(scope, receive, send)


def foreign(hosts: Sequence[str], origins: Sequence[str]) -> str | None:
    """Why a request is not from this machine's own programs and pages; None when it is.

    Args:
        hosts: its Host headers.
        origins: its Origin headers.
    """
    if len(hosts) != 1 or not is_loopback(_host_of(hosts[0])):
        return f"without a login this server answers to loopback names only, not to Host {', '.join(hosts)!r}"
    if not all(_is_local_origin(origin) for origin in origins):
        return f"without a login this server answers to pages of this machine only, not to {origins[0]!r}"
    return None


class Tokens:
    """Identities of bearer tokens, remembered for a few seconds, so that not every request asks the store."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._kept: dict[bytes, tuple[Identity, float]] = {}

    async def identity(self, authorization: str | None) -> Identity:
        """Whose an Authorization header is.

        Raises:
            Unauthorized: there is no bearer token in it, or none that is known.
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("a bearer token is required: 'Authorization: Bearer catchment_...'")
        # Kept under a digest: a look-up by it tells nothing about the token, however long it takes.
        key = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        identity, until = self._kept.get(key, (None, 0.0))
        now = self._clock()
        if identity is None or until <= now:
            self._kept.pop(key, None)
            identity = await run_in_threadpool(identify, self._store, token)
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[key] = (identity, now + KEEP_S)
        return identity
