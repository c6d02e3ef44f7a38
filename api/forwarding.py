"""One request's way through the gateway: its body in, a server that takes it, the reply out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from api.mirrors import Mirrors
from api.routing import HOLD_S, Routing
from api.upstreams import Connection, Pool
from catchment.errors import DeadlinePassed, NotServing, TooLarge, TransferError
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
DRAIN_S = 10.0
WATCH_AFTER_S = 0.2
"""A request that takes longer is given up when its client goes."""
_EXPECTS = (b"expect", b"100-continue")
_NOT_ON = frozenset((b"date", b"server"))


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
        self._scope, self._receive, self._send = scope, receive, send
        self._method: str = scope["method"]
        self._length = announced(scope)
        self._body = b""
        self._complete = False
        self._replayable = True
        self._connection: Connection | None = None
        self._gone = False
        self._arrived = 0
        self._deadline: asyncio.Timeout | None = None
        self._watch: asyncio.Task[None] | None = None
        self.started = False

    @property
    def unread(self) -> bool:
        """Whether there is more of the client's body that was not asked for yet."""
        return not self._complete

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
                await self._collect()
                await self._ask_until_answered()
        except TimeoutError:
            self._means.counting.event("timed_out")
            what = "the serving did not answer" if self._complete else "the request's body did not arrive"
            raise DeadlinePassed(f"{what} in time") from None
        finally:
            watch.cancel()
            if self._watch is not None:
                self._watch.cancel()
                await asyncio.gather(self._watch, return_exceptions=True)

    async def _collect(self) -> None:
        """Take the body in as far as it is kept. Raises TooLarge, DeadlinePassed, ClientDisconnect."""
        most = self._means.settings.gateway_max_request_bytes
        if self._length is not None and self._length > most:
            raise too_large(most)
        if self._length == 0 or self._method != "POST":
            self._complete = True
            return
        self._body = await self._part()
        if self._complete:
            return
        parts = [self._body]
        while not self._complete and self._arrived <= KEPT_BYTES:
            parts.append(await self._part())
        self._body = b"".join(parts)

    async def _part(self) -> bytes:
        """What comes next of the body. Raises TooLarge, ClientDisconnect."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = bytes(message.get("body", b""))
        self._arrived += len(part)
        if self._arrived > self._means.settings.gateway_max_request_bytes:
            raise too_large(self._means.settings.gateway_max_request_bytes)
        if self._arrived == self._length or not message.get("more_body", False):
            if self._length is not None and self._arrived != self._length:
                raise ClientDisconnect
            self._complete = True
        return part

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
                log.warning("a model server of %s at %s:%d: %s", place.key, place.host, place.port, failure)
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
        raise NotServing(nobody(self._route, failed=bool(tried)))

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
        kept = self._means.pool.kept(address) if self._complete else None
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
            if not self.started and not self._gone and self._complete:
                self._count_broken(place, began)  # its time was over
            raise
        finally:
            self._connection = None
            self._means.balance.end(place)
            if connection.reusable and self._complete:
                self._means.pool.give_back((place.host, place.port), connection)
            else:
                connection.fail(ConnectionAbortedError("given up"))

    async def _talk(self, connection: Connection, place: Place, began: float) -> Failure | None:
        bodiless = self._method == "HEAD"
        if self._complete:
            connection.send_head(self._head(place) + self._body, bodiless=bodiless)
        else:
            connection.send_head(self._head(place), bodiless=bodiless)
            await self._stream(connection)
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
        if self._complete:
            length: int | None = len(self._body)
        else:
            length = self._length
        host = f"[{place.host}]" if ":" in place.host else place.host
        head = request_head(self._method, target, f"{host}:{place.port}", headers, length)
        if not self._complete:
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
        framed = self._length is None
        await connection.send(chunk(first) if framed else first)
        while not self._complete:
            if part := await self._part():
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
        if not self._complete:
            await drain(self._receive, self._length, 2 * self._means.settings.gateway_max_request_bytes)
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
        if self._complete:
            self._watch = asyncio.ensure_future(self._until_gone())

    async def _until_gone(self) -> None:
        while True:
            message: Any = await self._receive()
            if message["type"] == "http.disconnect":
                break
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


def announced(scope: Scope) -> int | None:
    """The body's length as the client says it, which the HTTP server has checked; None: it does not."""
    length = None
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length" and value.isdigit():
            length = int(value)
    return length


async def drain(receive: Receive, length: int | None, most: int) -> None:
    """Read what a client sends all the same, within bounds: it hears the answer only afterwards.

    Args:
        length: of all of its body; None: it does not say.
        most: bytes; no body is begun that has more.
    """
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while size <= most >= (length or 0):
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


def _gave_up(tries: int, *, replayable: bool) -> str:
    if not replayable:
        return "the model server broke off, and the request is too large to be kept for another one"
    return f"{tries} model servers did not answer" if tries > 1 else "the model server broke off"


def too_large(most: int) -> TooLarge:
    """What is said of a body that is too large."""
    return TooLarge(f"the request has more than {most} bytes, which is the most that is taken")


def nobody(route: Route, *, failed: bool) -> str:
    """Why nobody can answer."""
    name = f"serving {route.namespace}/{route.name}"
    if not any(each.weight > 0 for each in route.targets):
        return f"{name} takes no traffic: {route.why}"
    if failed:
        return f"no model server of {name} answers just now"
    return f"no model server of {name} is ready: {route.why}"
