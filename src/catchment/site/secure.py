"""Secure aggregation at the site: the protocol's conversation beside a work, and the masking of its update.

All secrets of an attempt live in this process's memory. An agent that was restarted has lost them: it
begins the conversation with new keys, which the coordinator refuses once it has the old ones, and so the
site drops out of the attempt. No mask can ever be put on a second vector.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from catchment.errors import CatchmentError, ProtocolRefused, SiteError, Unreachable
from catchment.models.tensors import TensorFile, file_digest, write_tensors
from catchment.secagg.client import SecureClient
from catchment.secagg.keys import Identity
from catchment.secagg.messages import Delivery, Roster, Survivors, UnmaskRequest
from catchment.secagg.noised import layout_of
from catchment.site.backoff import Backoff
from catchment.site.exchange import Exchange
from catchment.site.identity import KnownIdentities
from catchment.wire.messages import Blob, WorkOrder
from catchment.wire.secagg import MASKED, Refusal, Said, SecureOrder, Told

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
_HELD_S = 20.0
_AFTER_DEADLINE_S = 600.0
"""Unmasking comes after the round's deadline; a conversation that is not over by then never will be."""


class SecureSession:
    """One work's conversation, in a thread of its own.

    Args:
        order: of the work; its `secure` says how.
        name: of the site.
        identity: of the site.
        known: decides whose identity a key is.
        minimum: the site takes part in no sum of fewer sites.
        open_exchange: a new connection.
    """

    def __init__(
        self,
        order: WorkOrder,
        name: str,
        identity: Identity,
        known: KnownIdentities,
        minimum: int,
        open_exchange: Callable[[], Exchange],
    ) -> None:
        if order.secure is None:
            raise ValueError("the order asks for no secure aggregation")
        self._order = order
        self._secure: SecureOrder = order.secure
        # Fewer sites than share the noise would release a sum with less of it than was promised.
        least = max(minimum, order.secure.noise.sharers if order.secure.noise else 0)
        self._make = partial(SecureClient, order.secure.plan, name, identity, known.trust, minimum=least)
        self._name = name
        self._open_exchange = open_exchange
        self._deadline = time.monotonic() + order.timeout_s + _AFTER_DEADLINE_S
        self._changed = threading.Condition()
        self._client: SecureClient | None = None
        self._roster: Roster | None = None
        self._delivery: Delivery | None = None
        self._problem: str | None = None
        self._masked = self._over = False
        self._exchange: Exchange | None = None
        self._thread = threading.Thread(target=self._run, name=f"secagg-{order.work_id}", daemon=True)

    def start(self) -> None:
        """Begin to agree keys, while the script trains."""
        self._thread.start()

    def stop(self) -> None:
        """End the conversation; the site drops out of the attempt."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
            if self._exchange is not None:
                self._exchange.abort()

    def call_off(self) -> None:
        """Nobody wants the work any more: end the conversation, unless the update is masked and on its way.

        The coordinator also calls off works that it has just taken, if the site asked while it held them.
        A masked update whose attempt is really over learns that from the coordinator's next answer.
        """
        with self._changed:
            masked = self._masked
        if not masked:
            self.stop()

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to say."""
        return not self._thread.is_alive()

    def mask(
        self, folder: Path, update: str, weights: str, metrics: dict[str, Any], remaining_s: float
    ) -> Blob:
        """Replace the update's file by its masked vector.

        Args:
            folder: of the task.
            update: name of the update's file in it.
            weights: name of the round's weights in it.
            metrics: as committed; `sample_num` says what the update weighs.
            remaining_s: until the round's deadline.

        Raises:
            SiteError, ProtocolRefused, BadTensors: it cannot or must not be masked.
        """
        client = self._ready(remaining_s)
        samples = _num_samples(metrics)
        path = folder / update
        with TensorFile.open(path) as plain, TensorFile.open(folder / weights) as before:
            layout = layout_of(self._secure, plain.signature)
            vector = layout.encode(plain, before, samples)
        client.mask(vector, self._delivery, roster=self._roster)
        write_tensors(path, {MASKED: vector})
        with self._changed:
            self._masked = True
            self._changed.notify_all()
        return Blob(digest=file_digest(path), size_bytes=path.stat().st_size)

    def _ready(self, remaining_s: float) -> SecureClient:
        """Wait until keys and shares are agreed."""

        def settled() -> bool:
            has_all = self._roster is not None and (
                self._delivery is not None or self._secure.plan.mode == "onemask"
            )
            return has_all or self._problem is not None or self._over

        with self._changed:
            settled_in_time = self._changed.wait_for(settled, max(0.0, remaining_s))
            if self._problem is not None:
                raise SiteError(f"secure aggregation: {self._problem}")
            if not settled_in_time or self._over or self._client is None:
                raise SiteError("secure aggregation: the sites did not agree on keys in time")
            return self._client

    def _run(self) -> None:
        try:
            with self._open_exchange() as exchange:
                self._exchange = exchange
                self._talk(exchange)
        except CatchmentError as error:
            self._end(str(error))
            self._tell_refusal(error)
        except Exception as error:
            # The edge of the conversation's thread: the work that waits for it must hear of it.
            logger.exception("secure aggregation failed work=%s", self._order.work_id)
            self._end(f"{type(error).__name__}: {error}")

    def _talk(self, exchange: Exchange) -> None:
        client = self._make()
        self._say(exchange, "advertise", client.advertise())
        roster = self._told(exchange, "roster", Roster)
        delivery = None
        if self._secure.plan.mode == "doublemask":
            self._say(exchange, "shares", client.share(roster))
            delivery = self._told(exchange, "delivery", Delivery)
        with self._changed:
            self._client, self._roster, self._delivery = client, roster, delivery
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._masked or self._over, self._left_s()) or self._over:
                return
        if delivery is None:
            return
        survivors = self._told(exchange, "survivors", Survivors)
        self._say(exchange, "confirmation", client.confirm(survivors))
        self._say(exchange, "unmasking", client.unmask(self._told(exchange, "request", UnmaskRequest)))
        logger.info("unmasked with %d sites work=%s", len(survivors.alive), self._order.work_id)

    def _say(self, exchange: Exchange, step: Said, message: BaseModel) -> None:
        body = message.model_dump_json().encode()
        self._tried(lambda: exchange.say_secure(self._order.work_id, step, body))

    def _told(self, exchange: Exchange, step: Told, kind: type[M]) -> M:
        while True:
            body = self._tried(partial(self._ask, exchange, step))
            if body:
                try:
                    return kind.model_validate_json(body)
                except ValidationError as error:
                    raise ProtocolRefused(f"the message of step {step!r} is malformed: {error}") from error

    def _ask(self, exchange: Exchange, step: Told) -> bytes:
        return exchange.ask_secure(self._order.work_id, step, min(_HELD_S, self._left_s()))

    def _tried(self, call: Callable[[], T]) -> T:
        """A call that is repeated while the coordinator is away."""
        backoff = Backoff(0.1, 5.0)
        while True:
            if self._over or self._left_s() <= 0:
                raise SiteError("the attempt was over before its sum could be unmasked")
            try:
                return call()
            except ProtocolRefused as error:
                raise SiteError(str(error)) from error  # it is the coordinator that refuses
            except Unreachable as error:
                logger.info("secure aggregation waits work=%s why=%r", self._order.work_id, str(error))
                with self._changed:
                    self._changed.wait_for(lambda: self._over, backoff.next_s())

    def _tell_refusal(self, error: CatchmentError) -> None:
        """Tell the coordinator why this site goes no further, so that a failed round can say so."""
        refuses = isinstance(error, ProtocolRefused)
        # The coordinator does not wait for every survivor's shares: to be told that it is over is no problem.
        level = logging.INFO if self._masked and not refuses else logging.WARNING
        logger.log(level, "secure aggregation ends work=%s why=%r", self._order.work_id, str(error))
        if not refuses or self._over:
            return
        refusal = Refusal(sender=self._name, reason=str(error)[:1000])
        try:
            with self._open_exchange() as exchange:
                exchange.say_secure(self._order.work_id, "refusal", refusal.model_dump_json().encode())
        except CatchmentError as problem:
            logger.info("the refusal was not heard why=%r", str(problem))

    def _end(self, problem: str) -> None:
        with self._changed:
            self._problem = problem
            self._changed.notify_all()

    def _left_s(self) -> float:
        return max(0.0, self._deadline - time.monotonic())


def _num_samples(metrics: dict[str, Any]) -> int:
    given = metrics.get("sample_num", 1)
    whole = isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
    if not whole or given != math.floor(given) or given < 1:
        raise SiteError(f"sample_num is {given!r:.80}, it must be a whole number of at least 1")
    return int(given)
