"""The gateway to servings: `/seldon/{namespace}/{serving}/v2/...` and `/serving/...`, before everything else.

Its requests pass neither routing nor validation of the application, which would cost more than all that the
gateway does (docs/adr/0027). What those look after is done here: who calls, from where, and what is answered.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import secrets
from collections.abc import Iterable, Iterator

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from api.access import Tokens, foreign
from api.forwarding import BrokenOff, Exchange, Means
from api.incoming import Incoming
from api.mirrors import Mirrors
from api.routing import Routing
from api.upstreams import Pool
from catchment.errors import (
    CatchmentError,
    DeadlinePassed,
    Forbidden,
    InvalidField,
    NotFound,
    NotServing,
    Overloaded,
    TooLarge,
    TransferError,
    Unauthorized,
    Unreachable,
)
from catchment.serving.gateway.addresses import Asked, parse
from catchment.serving.gateway.choosing import Balance
from catchment.serving.gateway.counting import Counting, FiguresWriter, Sample
from catchment.serving.gateway.table import Route, Table
from catchment.settings import Settings
from catchment.store import Store

log = logging.getLogger(__name__)
MOST_AT_ONCE = 1024
SWEEP_S = 10.0
STATUS: dict[type[CatchmentError], int] = {
    CatchmentError: 500,
    InvalidField: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    TooLarge: 413,
    TransferError: 502,
    NotServing: 503,
    Overloaded: 503,
    Unreachable: 503,
    DeadlinePassed: 504,
}


class Gateway:
    """Forwards requests to the model servers of servings; used by one event loop.

    Args:
        store: the process's.
        settings: its settings.
        tokens: who may call, where a login is asked for.
        generator: draws of weights and samples.
    """

    def __init__(self, store: Store, settings: Settings, tokens: Tokens, generator: random.Random) -> None:
        self._settings, self._tokens = settings, tokens
        self._counting = Counting()
        self._writer = FiguresWriter(store, self._counting)
        balance, pool = Balance(generator), Pool()
        share, most = settings.gateway_mirror_share, settings.gateway_mirror_bytes
        mirrors = Mirrors(pool, balance, self._counting, generator, share, most)
        routing = Routing(store, self._changed)
        self._means = Means(settings, routing, balance, pool, self._counting, mirrors)
        self._sweeper: asyncio.Task[None] | None = None
        self._table = Table()

    def samples(self) -> Iterator[Sample]:
        """Everything for /metrics."""
        return self._counting.samples()

    def start(self) -> None:
        """Begin to follow the store."""
        self._means.routing.start()
        self._writer.start()
        self._sweeper = asyncio.ensure_future(self._sweep())

    async def close(self) -> None:
        """End; figures that are not written yet are."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._means.routing.stop()
        await self._means.mirrors.close()
        self._means.pool.close()
        await asyncio.to_thread(self._writer.stop)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every failure is an answer, too."""
        counting = self._counting
        exchange: Exchange | None = None
        counting.in_flight += 1
        try:
            asked, route = await self._admit(scope)
            exchange = Exchange(self._means, asked, route, scope, receive, send)
            await exchange.run()
        except CatchmentError as error:
            await self._refuse(error, scope, exchange, receive, send)
        except ClientDisconnect:
            counting.event("client_gone")
        except BrokenOff:
            log.warning("a reply of %s broke off half-way", scope["path"])
            raise
        except Exception:  # the edge: whatever it is, the client hears and the log says
            mark = secrets.token_hex(4)
            log.exception("%s %s failed, incident %s", scope["method"], scope["path"], mark)
            if exchange is not None and exchange.started:
                raise  # what was sent must not look whole
            await _say(send, 500, f"internal error, incident {mark} in the server's log")
        finally:
            counting.in_flight -= 1

    async def _admit(self, scope: Scope) -> tuple[Asked, Route]:
        """What is asked for, by whom it may be.

        Raises:
            CatchmentError: says why not.
        """
        await self._check_caller(scope)
        if self._counting.in_flight > MOST_AT_ONCE:
            raise Overloaded(f"{MOST_AT_ONCE} requests are under way already", 1)
        asked = parse(scope["path"])
        if scope["method"] not in asked.methods:
            raise _WrongMethod(scope["method"], asked.methods)
        routing = self._means.routing
        route = routing.find(asked.namespace, asked.serving)
        if route is None:
            route = await routing.fresh(asked.namespace, asked.serving)
            if route is None:
                raise NotFound(f"there is no serving {asked.serving!r} in namespace {asked.namespace!r}")
        if asked.model and asked.model not in route.models:
            raise NotFound(f"serving {asked.serving!r} has no model {asked.model!r}")
        return asked, route

    async def _check_caller(self, scope: Scope) -> None:
        """Raises Unauthorized, Forbidden."""
        hosts, origins, login = [], [], None
        for name, value in scope["headers"]:
            if name == b"authorization":
                login = value.decode("latin-1")
            elif name == b"host":
                hosts.append(value.decode("latin-1"))
            elif name == b"origin":
                origins.append(value.decode("latin-1"))
        if self._settings.auth == "loopback":
            if (reason := foreign(hosts, origins)) is not None:
                raise Forbidden(reason)
            return
        identity = await self._tokens.identity(login)
        if identity.role not in ("admin", "user"):
            raise Forbidden(f"a token of role {identity.role!r} may not ask servings, only admin or user")

    async def _refuse(
        self, error: CatchmentError, scope: Scope, exchange: Exchange | None, receive: Receive, send: Send
    ) -> None:
        if exchange is not None and exchange.started:
            raise BrokenOff(str(error))
        if exchange is not None:
            await exchange.drain()
        else:
            await Incoming(scope, receive, self._settings.gateway_max_request_bytes).drain()
        status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
        headers: list[tuple[bytes, bytes]] = []
        if isinstance(error, _WrongMethod):
            status = 405
            headers.append((b"allow", ", ".join(error.allowed).encode()))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if status == 503:
            headers.append((b"retry-after", str(getattr(error, "retry_after_s", 1)).encode()))
        await _say(send, status, str(error), headers)

    def _changed(self, table: Table) -> None:
        self._table = table
        self._means.balance.forget(table)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._means.pool.sweep((each.host, each.port) for each in self._table.places())


class _WrongMethod(InvalidField):
    """The address answers other methods."""

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__("method", f"{method} is not possible here, only {' or '.join(allowed)}")
        self.allowed = allowed


async def _say(send: Send, status: int, sentence: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """An error in the protocol's words."""
    body = json.dumps({"error": sentence}).encode()
    length = (b"content-length", str(len(body)).encode())
    start = [(b"content-type", b"application/json"), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body, "more_body": False})
