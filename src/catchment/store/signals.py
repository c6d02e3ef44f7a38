"""Wake-ups between processes: who waits for a change of the store sleeps until there is one.

A waiter takes a ticket, looks at the store, and waits with the ticket if it did not find what it wants.
A signal sent after the ticket was taken ends the wait, so none is lost. Signals are hints: every waiter
looks again after `wait`, and a wait may end for nothing. PostgreSQL carries them by LISTEN/NOTIFY inside
the committing transaction; for SQLite one thread watches the file's data_version.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol

from sqlalchemy import Connection, Engine, text

_jitter = random.Random()  # noqa: S311 - not the global one, whose state belongs to others

log = logging.getLogger(__name__)
CHANNEL = "catchment"
LOOK_AGAIN_S = 5.0
"""A wait never sleeps longer in one piece, so that a wake-up lost with a connection costs seconds only."""
SQLITE_LOOK_S = 0.05


class Ticket:
    """The moment from which a waiter wants to hear of its topics."""

    def __init__(self, topics: Iterable[str], counts: dict[str, int]) -> None:
        self.topics = tuple(topics)
        self._seen = {topic: counts[topic] for topic in self.topics}

    def is_stale(self, counts: dict[str, int]) -> bool:
        """True once a topic was signalled after the ticket was taken."""
        return any(counts[topic] != seen for topic, seen in self._seen.items())


class Source(Protocol):
    """Where signals come from."""

    def send(self, connection: Connection, topics: Iterable[str]) -> None:
        """Make the topics known to other processes when the connection's transaction commits."""

    def run(self, signals: Signals) -> None:
        """Feed `signals` until it is closed."""


class Signals:
    """Topics of one process, fed by a background thread that starts with the first waiter."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._counts: dict[str, int] = defaultdict(int)
        self._changed = threading.Condition()
        self._async_waiters: dict[asyncio.Event, tuple[Ticket, asyncio.AbstractEventLoop]] = {}
        self._thread: threading.Thread | None = None
        self._listeners: list[Callable[[Iterable[str] | None], None]] = []
        self.closed = threading.Event()

    def listen(self, hear: Callable[[Iterable[str] | None], None]) -> None:
        """Have each arrival told: its topics, or None when some may have been missed. Must be quick."""
        self._ensure_thread()
        self._listeners.append(hear)

    def send(self, connection: Connection, topics: Iterable[str]) -> None:
        """Make topics known to other processes with the connection's commit."""
        self._source.send(connection, topics)

    def ticket(self, *topics: str) -> Ticket:
        """A ticket for topics; take it before looking at the store."""
        self._ensure_thread()
        with self._changed:
            return Ticket(topics, self._counts)

    def wait(self, ticket: Ticket, timeout_s: float) -> bool:
        """Sleep until a topic of the ticket is signalled; False when the time is over first."""
        limit = min(timeout_s, LOOK_AGAIN_S)
        with self._changed:
            return self._changed.wait_for(
                lambda: self.closed.is_set() or ticket.is_stale(self._counts), max(0.0, limit)
            )

    async def wait_async(self, ticket: Ticket, timeout_s: float) -> bool:
        """`wait` for an event loop."""
        event = asyncio.Event()
        with self._changed:
            if self.closed.is_set() or ticket.is_stale(self._counts):
                return True
            self._async_waiters[event] = ticket, asyncio.get_running_loop()
        deadline = time.monotonic() + min(timeout_s, LOOK_AGAIN_S)
        try:
            while (left := deadline - time.monotonic()) > 0:
                try:
                    # Not wait_for: until Python 3.12 it loses a cancellation that meets the event.
                    async with asyncio.timeout(left):
                        await event.wait()
                except TimeoutError:
                    return False
                event.clear()
                with self._changed:
                    if self.closed.is_set() or ticket.is_stale(self._counts):
                        return True
            return False
        finally:
            with self._changed:
                self._async_waiters.pop(event, None)

    def arrived(self, topics: Iterable[str] | None) -> None:
        """Signal topics inside this process; None: all of them, because some may have been missed."""
        for hear in self._listeners:
            hear(topics)
        with self._changed:
            for topic in list(self._counts) if topics is None else topics:
                self._counts[topic] += 1
            self._changed.notify_all()
            for event, (ticket, loop) in self._async_waiters.items():
                # Of many held-open requests only those that are meant: a wake-up costs its loop time.
                if (self.closed.is_set() or ticket.is_stale(self._counts)) and not loop.is_closed():
                    loop.call_soon_threadsafe(event.set)

    def close(self) -> None:
        """End the background thread and all waits."""
        self.closed.set()
        self.arrived(None)
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _ensure_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            with self._changed:
                if (self._thread is None or not self._thread.is_alive()) and not self.closed.is_set():
                    self._thread = threading.Thread(
                        target=self._source.run, args=(self,), name="store-signals", daemon=True
                    )
                    self._thread.start()


class PostgresSource:
    """LISTEN on a connection of its own; reconnects with back-off and then wakes everybody."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def send(self, connection: Connection, topics: Iterable[str]) -> None:
        """NOTIFY inside the transaction: delivered if and when it commits."""
        every = text("SELECT pg_notify(:channel, topic) FROM unnest(CAST(:topics AS text[])) AS topic")
        connection.execute(every, {"channel": CHANNEL, "topics": list(topics)})

    def run(self, signals: Signals) -> None:
        """Listen until closed."""
        import psycopg

        pause_s = 0.1
        url = self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        while not signals.closed.is_set():
            try:
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    signals.arrived(None)
                    pause_s = 0.1
                    while not signals.closed.is_set():
                        for note in connection.notifies(timeout=0.5):
                            signals.arrived([note.payload])
            except psycopg.Error as error:
                log.warning("store signals interrupted: %s", error)
                signals.closed.wait(pause_s * _jitter.uniform(0.5, 1.5))
                pause_s = min(pause_s * 2, 5.0)


class SqliteSource:
    """Watches PRAGMA data_version, which moves with every commit of another connection."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def send(self, connection: Connection, topics: Iterable[str]) -> None:
        """Nothing to send: the commit itself moves data_version."""

    def run(self, signals: Signals) -> None:
        """Look until closed; one small pragma per look serves all waiters of the process."""
        with self._engine.connect() as connection:
            seen = None
            while not signals.closed.wait(SQLITE_LOOK_S):
                version = connection.exec_driver_sql("PRAGMA data_version").scalar()
                connection.rollback()
                if version != seen:
                    seen = version
                    signals.arrived(None)
