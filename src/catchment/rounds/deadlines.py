"""Deadlines of a run's steps: storage that hangs without an error must not hold a job for ever.

A step runs in a thread of its own, which nobody can end: one that is late is given up. It is a daemon, so
the process's end does not wait for it, and should it wake up after all, `claim.held` refuses its writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import func, select

from catchment.errors import StepTimedOut
from catchment.jobs import log, rows
from catchment.jobs.spec import HyperParameters
from catchment.rounds.claim import Claim, given_up
from catchment.settings import Settings
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import works

T = TypeVar("T")
LOOK_UP_S = 60.0
"""A database that does not tell within so long what a late step may take is taken to hang as well."""
SLOWEST_BYTES_PER_S = 10e6
"""Storage that moves a round's updates more slowly than this is taken to hang."""

WAITS: dict[str, Callable[[Settings, HyperParameters], float]] = {
    "select cohort": lambda settings, _hyper: settings.cohort_wait_s,
    "agree keys": lambda _settings, hyper: hyper.round_timeout,
    "unmask": lambda _settings, hyper: hyper.round_timeout,
    "collect updates": lambda _settings, hyper: hyper.round_timeout,
    "evaluate": lambda settings, hyper: min(settings.evaluation_timeout_s, hyper.round_timeout),
    "broadcast": lambda settings, _hyper: settings.extender_timeout_s,
    "aggregate and commit": lambda settings, _hyper: settings.extender_timeout_s,
    "finish round": lambda settings, _hyper: settings.extender_timeout_s,
}
"""How long steps may wait for sites or for a job's own functions, beside the time for their own work."""


@dataclass(frozen=True)
class Step:
    """A step of a run, for its deadline and for the words about it.

    Attributes:
        name: what it does, a key of `WAITS` where it waits for others.
        claim: of its run; None for the claim itself.
        number: of its round, if it belongs to one.
    """

    name: str
    claim: Claim | None = None
    number: int | None = None

    def __str__(self) -> str:
        return self.name if self.number is None else f"{self.name}, round {self.number}"


async def in_time(store: Store, step: Step, function: Callable[[], T]) -> T:
    """The function's result, from a thread.

    Every step has `step_timeout_s`. What it may take beyond that, for a large model or for slow sites, is
    looked up only when that time is over, so that it costs the usual round nothing.

    Raises:
        StepTimedOut: the step took longer than it may, and was given up.
    """
    late = threading.Event()
    running = _in_thread(str(step), function, late)
    try:
        allowed_s = store.settings.step_timeout_s
        if not await _done(running, allowed_s):
            more_s = await _bounded("look up deadline", lambda: further_s(store, step))
            allowed_s += more_s or 0.0
            if not await _done(running, more_s or 0.0):
                late.set()
                error = StepTimedOut(str(step), allowed_s)
                await _bounded("tell of deadline", lambda: _tell(store, step, str(error)))
                raise error
        return running.result()
    finally:
        late.set()


def further_s(store: Store, step: Step) -> float:
    """Seconds that a step may take beyond `step_timeout_s`: its waits, and the bytes of its round."""
    claim = step.claim
    if claim is None:
        return 0.0

    def look(tx: Transaction) -> float:
        hyper = rows.spec_of(rows.by_uid(tx, claim.uid)).hyper_parameters
        of_round = (
            (works.c.job_uid == claim.uid) & (works.c.run == claim.run) & (works.c.round == step.number)
        )
        size = func.coalesce(func.sum(works.c.update_bytes + works.c.files_bytes), 0)
        moved = int(tx.execute(select(size).where(of_round)).scalar_one())
        waits = WAITS.get(step.name)
        waited_s = waits(store.settings, hyper) if waits is not None else 0.0
        return waited_s + moved / SLOWEST_BYTES_PER_S

    return store.db.read(look)


def _tell(store: Store, step: Step, words: str) -> None:
    """Say in the job and in its log what it is that takes so long."""
    if (claim := step.claim) is None:
        return

    def write(tx: Transaction) -> None:
        row = rows.by_uid(tx, claim.uid, lock=True)
        if row.lease_owner == claim.owner and not row.stop_requested:
            rows.change(tx, claim.uid, reason=words)
            log.write(tx, claim.uid, log.Line(words, "warning", run=claim.run, round=step.number))

    store.db.write(write)


async def _bounded(name: str, function: Callable[[], T]) -> T | None:
    """The function's result; None when it fails or takes long, for the database may hang as well."""
    looking = _in_thread(name, function)
    if await _done(looking, LOOK_UP_S) and looking.exception() is None:
        return looking.result()
    return None


async def _done(running: asyncio.Future[T], timeout_s: float) -> bool:
    done, _ = await asyncio.wait([running], timeout=timeout_s)
    return bool(done)


def _in_thread(
    name: str, function: Callable[[], T], late: threading.Event | None = None
) -> asyncio.Future[T]:
    """Start the function in a daemon thread. The executor's threads would hold up the process's end."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(deliver: Callable[[], None]) -> None:
        if not outcome.cancelled():
            deliver()

    def run() -> None:
        deliver: Callable[[], None]
        given_up.set(late)
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            deliver = _bound(outcome.set_exception, error)
        else:
            deliver = _bound(outcome.set_result, result)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, deliver)

    outcome.add_done_callback(_seen)
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()
    return outcome


def _bound(function: Callable[[T], None], value: T) -> Callable[[], None]:
    return lambda: function(value)


def _seen(outcome: asyncio.Future[T]) -> None:
    """A late step's error interests nobody; asyncio would complain that it was never looked at."""
    if not outcome.cancelled():
        outcome.exception()
