"""Requests that a second version is asked too, after their clients have been answered."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from api.upstreams import Pool
from catchment.errors import TransferError
from catchment.serving.gateway.agreeing import Reply, agree
from catchment.serving.gateway.choosing import Balance
from catchment.serving.gateway.counting import Counting
from catchment.serving.gateway.framing import Head
from catchment.serving.gateway.mirroring import Pair, pair_of
from catchment.serving.gateway.table import Place, Route, Target

log = logging.getLogger(__name__)
MOST_AT_ONCE = 8
DEADLINE_S = 10.0
Request = tuple[Callable[[Place], bytes], bytes]
"""What makes a request's head for a server, and its body."""


@dataclass(frozen=True)
class Wanted:
    """A comparison that is to be made."""

    pair: Pair
    other: Target


class Mirrors:
    """Asks and compares in the background; used by one event loop.

    Args:
        share: of the inferences.
        most_bytes: of a request, and of an answer.
    """

    def __init__(
        self,
        pool: Pool,
        balance: Balance,
        counting: Counting,
        generator: random.Random,
        share: float,
        most_bytes: int,
    ) -> None:
        self._pool, self._balance, self._counting = pool, balance, counting
        self._generator, self._share, self._most = generator, share, most_bytes
        self._tasks: set[asyncio.Task[None]] = set()

    def wanted(self, route: Route, key: str, size: int) -> Wanted | None:
        """Whether a request of so many bytes that `key` answers is to be compared, and with whom."""
        if len(route.targets) < 2 or size > self._most or len(self._tasks) >= MOST_AT_ONCE:
            return None
        pair = pair_of(route, key)
        if pair is None or self._generator.random() >= self._share:
            return None
        other = pair.other(key)
        return None if other is None else Wanted(pair, other)

    def ask(self, route: Route, wanted: Wanted, request: Request, head: Head, body: bytes) -> None:
        """Ask the other version in the background.

        Args:
            request: as the first version got it.
            head: of the answer that the client has got.
            body: of that answer.
        """
        first = reply_of(head, body)
        if first is None or len(body) > self._most:
            return
        task = asyncio.ensure_future(self._compare(route, wanted, request, first))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is under way."""
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _compare(self, route: Route, wanted: Wanted, request: Request, first: Reply) -> None:
        place = self._balance.of(wanted.other)
        try:
            async with asyncio.timeout(DEADLINE_S):
                second = await self._second(place, request)
                canary_answered = wanted.other is wanted.pair.canary
                if second is None or (second.status != 200 and not canary_answered):
                    return
                agreed = await asyncio.to_thread(agree, first, second)
        except TimeoutError:
            return
        except Exception:  # the edge of a task that nobody waits for
            log.exception("a comparison of versions of %s/%s", route.namespace, route.name)
            return
        self._counting.compared(route.uid, wanted.pair.canary.key, agreed=agreed)

    async def _second(self, place: Place, request: Request) -> Reply | None:
        """The other version's reply; status 0: it broke off; None: it says nothing about the model."""
        address = place.host, place.port
        try:
            connection = await self._pool.fresh(address)
        except OSError:
            return None
        self._balance.begin(place)
        try:
            connection.send_head(request[0](place) + request[1], bodiless=False)
            head = await connection.head()
            body = bytearray()
            while part := await connection.next():
                body += part
                if len(body) > self._most:
                    return None
            if head.status in (503, 504):
                return None
            return reply_of(head, bytes(body))
        except (OSError, TransferError):
            return Reply(0, b"")
        finally:
            self._balance.end(place)
            if connection.reusable:
                self._pool.give_back(address, connection)
            else:
                connection.fail(ConnectionAbortedError("given up"))


def reply_of(head: Head, body: bytes) -> Reply | None:
    """A reply to compare; None when its body cannot be read here."""
    length = None
    for name, value in head.headers:
        if name == b"inference-header-content-length":
            if not value.isdigit():
                return None
            length = int(value)
        elif name == b"content-encoding" and value.lower() != b"identity":
            return None
    return Reply(head.status, body, length)
