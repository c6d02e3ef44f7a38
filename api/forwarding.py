"""One request's way through the gateway: its body in, a server that takes it, the reply out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from api.incoming import Incoming
from api.mirrors import Mirrors
from api.routing import HOLD_S, Routing
from api.upstreams import Connection, Pool
from catchment.errors import DeadlinePassed, NotServing, TransferError
from catchment.serving.gateway.addresses import Asked
from catchment.serving.gateway.choosing import Balance
from catchment.serving.gateway.counting import Counting
from catchment.serving.gateway.framing import LAST_CHUNK, Head, chunk, request_head
from catchment.serving.gateway.retrying import (
    SMALL_REPLY_BYTES,
    Failure,
    is_tried_again,
    says_elsewhere,
)
from catchment.serving.gateway.table import Place, Route
from catchment.settings import Settings

log = logging.getLogger(__name__)
KEPT_BYTES = 1 << 20
"""Bodies up to this are there as a whole before a server is asked, so that another can be asked after it."""
INVITED_S = 1.0
"""A server that does not say within this whether it wants a large body gets it."""
WATCH_AFTER_S = 0.2
"""A request that takes longer is given up when its client goes."""
_EXPECTS = (b"expect", b"100-continue")
_NOT_ON = frozenset((b"date", b"server"))
_WHAT_HAPPENED: dict[Failure, str] = {
    "refused": "does not listen",
    "stale": "closed the connection",
    "reset": "broke off before it answered",
    "elsewhere": "is stopping, or loads its model",
}


class BrokenOff(Exception):
    """A reply ended half-way; all that can be done is to end the client's connection too."""


@dataclass(frozen=True)
class Means:
    """What requests are forwarded with; one of each in a process."""

    settings: Settings
    routing: Routing
    balance: Balance
    pool: Pool
    counting: Counting
    mirrors: Mirrors


class Exchange:
    """One request to a serving and its reply; used once."""

    def __init__(
        self, means: Means, asked: Asked, route: Route, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._means, self._asked, self._route = means, asked, _for(asked, route)
        self._scope, self._send = scope, send
        self._method: str = scope["method"]
        self._incoming = Incoming(scope, receive, means.settings.gateway_max_request_bytes)
        self._body = b""
        self._replayable = True
        self._connection: Connection | None = None
        self._gone = False
        self._deadline: asyncio.Timeout | None = None
        self._watch: asyncio.Task[None] | None = None
        self.started = False

    async def run(self) -> None:
        """Forward it.

        Raises:
            ClientDisconnect: nobody waits for the answer.
            BrokenOff: the reply ended half-way.
            TooLarge, DeadlinePassed, NotServing, TransferError: what the client is to be told.
        """
        loop = asyncio.get_running_loop()
        self._deadline = asyncio.timeout(self._means.settings.gateway_timeout_s)
        watch = loop.call_later(WATCH_AFTER_S, self._watch_client)
        try:
            async with self._deadline:
                self._body = await self._incoming.first(KEPT_BYTES)
                await self._ask_until_answered()
        except TimeoutError:
            self._means.counting.event("timed_out")
            what = (
                "the serving did not answer"
                if self._incoming.complete
                else "the request's body did not arrive"
            )
            raise DeadlinePassed(f"{what} in time") from None
        finally:
            watch.cancel()
            if self._watch is not None:
                self._watch.cancel()
                await asyncio.gather(self._watch, return_exceptions=True)

    async def drain(self) -> None:
        """Read what is left of the client's body, that it hears why it is refused."""
        await self._incoming.drain()

    async def _ask_until_answered(self) -> None:
        balance = self._means.balance
        tried: list[Place] = []
        broken = 0
        while True:
            place = balance.choose(self._route, tried) or await self._another(tried)
            began = time.monotonic()
            failure = await self._try(place, began)
            if failure is None:
                balance.succeeded(place)
                return
            if balance.failed(place):
                log.warning("%s at %s:%d %s", place.key, place.host, place.port, _WHAT_HAPPENED[failure])
            tried.append(place)
            if failure == "reset":
                broken += 1
                self._count_broken(place, began)
            if not is_tried_again(len(tried), broken, replayable=self._replayable):
                raise TransferError(_gave_up(len(tried), replayable=self._replayable))
            self._means.counting.event("retried")

    async def _another(self, tried: list[Place]) -> Place:
        """A server that the store knows and the table did not. Raises NotServing.

        When those that were asked have just gone, whoever takes their place may be a moment late.
        """
        routing = self._means.routing
        self._take(await routing.fresh(*self._name))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOLD_S if tried else 0):
                while True:
                    place = self._means.balance.choose(self._route, tried)
                    if place is not None:
                        return place
                    await routing.news()
                    self._take(routing.find(*self._name))
        self._means.counting.event("unavailable")
        raise NotServing(self._route.silence(failed=bool(tried)))

    def _take(self, route: Route | None) -> None:
        """A newer route; None: the serving is gone, and what was known of it still counts."""
        if route is not None:
            self._route = _for(self._asked, route)

    def _count_broken(self, place: Place, began: float) -> None:
        if self._asked.is_inference:
            self._means.counting.broke(self._name, place, time.monotonic() - began)

    @property
    def _name(self) -> tuple[str, str]:
        return self._asked.namespace, self._asked.serving

    async def _try(self, place: Place, began: float) -> Failure | None:
        """Ask one server; why it did not answer, None when the reply was passed on."""
        address = place.host, place.port
        kept = self._means.pool.kept(address) if self._incoming.complete else None
        if kept is not None:
            failure = await self._once(kept, place, began)
            if failure != "stale":
                return failure
        try:
            connection = await self._means.pool.fresh(address)
        except OSError:
            # It was there when it got the request: gone with it.
            return "refused" if kept is None else "reset"
        return await self._once(connection, place, began)

    async def _once(self, connection: Connection, place: Place, began: float) -> Failure | None:
        self._connection = connection
        self._means.balance.begin(place)
        try:
            return await self._talk(connection, place, began)
        except (OSError, TransferError) as error:
            if self._gone:
                raise ClientDisconnect from None
            if self.started:
                raise BrokenOff(str(error)) from None
            if connection.begun:  # what came is no reply: to ask another server would hide it
                self._count_broken(place, began)
                raise TransferError(f"the model server of {place.key} broke off: {error}") from None
            return "stale" if connection.used > 1 else "reset"
        except asyncio.CancelledError:
            if not self.started and not self._gone and self._incoming.complete:
                self._count_broken(place, began)  # its time was over
            raise
        finally:
            self._connection = None
            self._means.balance.end(place)
            if connection.reusable and self._incoming.complete:
                self._means.pool.give_back((place.host, place.port), connection)
            else:
                connection.fail(ConnectionAbortedError("given up"))

    async def _talk(self, connection: Connection, place: Place, began: float) -> Failure | None:
        bodiless = self._method == "HEAD"
        if self._incoming.complete:
            connection.send_head(self._head(place) + self._body, bodiless=bodiless)
        else:
            connection.send_head(self._head(place), bodiless=bodiless)
            await self._stream(connection)
            self._watch_client()
        head = await connection.head()
        if head.status == 503 and self._replayable and await _is_elsewhere(connection, head):
            return "elsewhere"
        if self._asked.is_inference:
            took = time.monotonic() - began
            self._means.counting.answered(self._name, place, head.status, took)
        await self._answer(connection, place, head)
        return None

    def _head(self, place: Place) -> bytes:
        query = self._scope.get("query_string", b"")
        target = self._asked.inner(self._route.name)
        if query:
            target += "?" + query.decode("latin-1")
        headers = self._scope["headers"]
        if self._incoming.complete:
            length: int | None = len(self._body)
        else:
            length = self._incoming.length
        host = f"[{place.host}]" if ":" in place.host else place.host
        head = request_head(self._method, target, f"{host}:{place.port}", headers, length)
        if not self._incoming.complete:
            head = head[:-2] + b"%b: %b\r\n\r\n" % _EXPECTS
        return head

    async def _stream(self, connection: Connection) -> None:
        """Send a large body as it comes, unless the server answers before it has all of it."""
        answer = asyncio.ensure_future(connection.invited())
        try:
            await asyncio.wait([answer], timeout=INVITED_S)
            if answer.done() and (answer.exception() is not None or not answer.result()):
                answer.result()  # raises what went wrong
                return
        finally:
            if not answer.done():
                answer.cancel()
                await asyncio.gather(answer, return_exceptions=True)
        self._replayable = False
        first, self._body = self._body, b""
        await self._while_silent(connection, first)

    async def _while_silent(self, connection: Connection, first: bytes) -> None:
        """Send what comes until it is over or the server has answered, whatever comes first."""
        sending = asyncio.ensure_future(self._send_all(connection, first))
        answer = asyncio.ensure_future(connection.head())
        try:
            await asyncio.wait([sending, answer], return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not answer.done():
                sending.result()
        finally:
            for each in (sending, answer):
                if not each.done():
                    each.cancel()
            await asyncio.gather(sending, answer, return_exceptions=True)

    async def _send_all(self, connection: Connection, first: bytes) -> None:
        framed = self._incoming.length is None
        await connection.send(chunk(first) if framed else first)
        while not self._incoming.complete:
            if part := await self._incoming.next():
                await connection.send(chunk(part) if framed else part)
        if framed:
            await connection.send(LAST_CHUNK)

    async def _answer(self, connection: Connection, place: Place, head: Head) -> None:
        """Send the reply on, in one piece where it is there already."""
        headers = [each for each in head.headers if each[0] not in _NOT_ON]
        headers.append((b"catchment-workload", place.key.encode()))
        if self._gone:
            raise ClientDisconnect
        start = {"type": "http.response.start", "status": head.status, "headers": headers}
        await self._incoming.drain()
        body = await _whole(connection)
        await self._send(start)
        self.started = True
        if body is None:
            await self._pass_on(connection)
            return
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
        if self._asked.verb == "infer" and head.status == 200 and self._replayable:
            route, mirrors = self._route, self._means.mirrors
            wanted = mirrors.wanted(route, place.key, len(self._body))
            if wanted is not None:
                mirrors.ask(route, wanted, (self._head, self._body), head, body)

    async def _pass_on(self, connection: Connection) -> None:
        """A larger reply, as it comes and as the client takes it."""
        limit = self._means.settings.gateway_timeout_s
        assert self._deadline is not None  # noqa: S101 - runs
        self._deadline.reschedule(None)
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(limit):
                    part = await connection.next()
                    await self._send({"type": "http.response.body", "body": part, "more_body": bool(part)})
                if not part:
                    return
        raise BrokenOff(f"nothing moved for {limit:g} s")

    def _watch_client(self) -> None:
        """The request takes longer than most: does its client still wait?"""
        if self._incoming.complete and self._watch is None:
            self._watch = asyncio.ensure_future(self._until_gone())

    async def _until_gone(self) -> None:
        await self._incoming.gone()
        self._gone = True
        if self._connection is not None:
            self._connection.fail(ConnectionAbortedError("the client has gone"))


async def _is_elsewhere(connection: Connection, head: Head) -> bool:
    """Whether a 503 says that another server should be asked; its body stays to be read otherwise."""
    if head.length is None or head.length > SMALL_REPLY_BYTES:
        return False
    body = b""
    while part := await connection.next():
        body += part
    connection.unread(body)
    return says_elsewhere(head.status, body)


async def _whole(connection: Connection) -> bytes | None:
    """A reply's body, when all of it is there; None: it is to be passed on in parts."""
    if not connection.whole:
        return None
    parts = []
    while part := await connection.next():
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _for(asked: Asked, route: Route) -> Route:
    return route.of_version(asked.version) if asked.version else route


def _gave_up(tries: int, *, replayable: bool) -> str:
    if not replayable:
        return "the model server broke off, and the request is too large to be kept for another one"
    return f"{tries} model servers did not answer" if tries > 1 else "the model server broke off"
