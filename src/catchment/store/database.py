"""The database behind the store: engines for PostgreSQL and SQLite, transactions, migrations."""

from __future__ import annotations

import contextlib
import logging
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from catchment.errors import NotFound, SetupError, Unreachable
from catchment.store.clock import Clock, Countdown, has_passed, host_clock, postgres_clock, time_left
from catchment.store.signals import PostgresSource, Signals, SqliteSource

_jitter = random.Random()  # noqa: S311 - not the global one, whose state belongs to others

log = logging.getLogger(__name__)
T = TypeVar("T")
TRIES = 8
LOCK_WAIT_S = 10.0
"""A transaction waits so long for a lock that another holds before it is repeated."""
CONNECTION = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""libpq's words for: a server that vanishes without a word is noticed within half a minute."""
MIGRATION_LOCK = 0x63617463
"""Key of the advisory lock that lets one process at a time migrate a PostgreSQL database."""


class Transaction:
    """One open transaction; topics that it notifies are heard when it commits."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self.connection = connection
        self._clock = clock
        self._now: float | None = None
        self.topics: set[str] = set()
        self.execute = connection.execute

    @property
    def now(self) -> float:
        """The store's time when the transaction first asked for it."""
        if self._now is None:
            self._now = self._clock.now(self.connection)
        return self._now

    def has_passed(self, since: float, seconds: float) -> bool:
        """Whether `seconds` have passed since a time that is renewed while its writer lives (store.clock)."""
        return has_passed(self._clock, self.now, since, seconds)

    def time_left(self, deadline: float, longest_s: float) -> float:
        """Seconds until a deadline that was set `longest_s` ahead (store.clock)."""
        now = self.now
        return time_left(self._clock, now, deadline, longest_s)

    def counted_down(self, countdown: Countdown, deadline: float) -> float:
        """Seconds until a deadline, for who looks at it again and again (store.clock)."""
        now = self.now
        return countdown.left_s(self._clock, now, deadline)

    def notify(self, *topics: str) -> None:
        """Wake those who wait for these topics, once the transaction has committed."""
        self.topics.update(topics)


class Database:
    """Transactions with retry on what may pass: a lost connection, a locked database, a deadlock."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self.clock = clock or (host_clock() if self.is_sqlite else postgres_clock())
        source = SqliteSource(self.engine) if self.is_sqlite else PostgresSource(self.engine)
        self.signals = Signals(source)

    def write(self, step: Callable[[Transaction], T]) -> T:
        """Run `step` in one transaction and commit; repeated as a whole when the database asks for it.

        Raises:
            Unreachable: the database does not answer, or stays locked.
            NotFound: a name that was looked for contains a NUL character.
        """
        return self._retried(step, write=True)

    def read(self, step: Callable[[Transaction], T]) -> T:
        """Run `step` in a transaction that sees one state of the store and changes nothing."""
        return self._retried(step, write=False)

    def _retried(self, step: Callable[[Transaction], T], *, write: bool) -> T:
        pause_s = 0.05
        for tries_left in reversed(range(TRIES)):
            try:
                return self._once(step, write=write)
            except DBAPIError as error:
                if isinstance(error, DataError) and "NUL" in str(error.orig):
                    # SQLite finds nothing under such a name, PostgreSQL does not even look.
                    raise NotFound("nothing has a name that contains a NUL character") from error
                if not _may_pass(error):
                    raise
                if not tries_left:
                    raise Unreachable(f"the database does not answer: {_first_line(error)}") from error
                log.info("transaction repeated: %s", _first_line(error))
                time.sleep(pause_s * _jitter.uniform(0.5, 1.5))
                pause_s = min(pause_s * 2, 2.0)
        raise AssertionError("unreachable")

    def _once(self, step: Callable[[Transaction], T], *, write: bool) -> T:
        with self.engine.connect() as connection:
            if write and self.is_sqlite:
                # Taking the write lock at once avoids the deadlock of two readers that both want to write.
                connection.info["immediate"] = True
            elif not write and not self.is_sqlite:
                # SQLite's readers see one state anyway.
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                transaction = Transaction(connection, self.clock)
                result = step(transaction)
                if transaction.topics:
                    self.signals.send(connection, sorted(transaction.topics))
        if transaction.topics:
            self.signals.arrived(transaction.topics)
        return result

    def migrate(self) -> None:
        """Bring the database to this version's schema; safe when several processes do it at once.

        Raises:
            SetupError: a newer Catchment made the schema, or this is no database that can be used.
            Unreachable: the database does not answer.
        """
        from alembic import command

        def step(tx: Transaction) -> None:
            if not self.is_sqlite:
                tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            _refuse_newer(tx.connection)
            command.upgrade(_alembic(tx.connection), "head")

        with _usable():
            self.write(step)

    def check_version(self) -> None:
        """Refuse to work on a database of another version.

        Raises:
            SetupError: it was not migrated, or by a newer Catchment, or is none that can be used.
            Unreachable: it does not answer.
        """
        with _usable():
            current, head = self.read(lambda tx: _refuse_newer(tx.connection))
        if current != head:
            raise SetupError(
                f"the store's database has schema {current or 'none'}, this version needs {head}; "
                "run 'catchment store migrate', or 'catchment up', which does it by itself"
            )

    @property
    def connections(self) -> dict[tuple[str], float]:
        """How many connections are in use, and how many wait to be."""
        pool = self.engine.pool
        assert isinstance(pool, QueuePool)  # noqa: S101 - as it was made below
        return {("in_use",): float(pool.checkedout()), ("idle",): float(pool.checkedin())}

    def close(self) -> None:
        """Close connections and end waits."""
        self.signals.close()
        self.engine.dispose()


@contextlib.contextmanager
def _usable() -> Iterator[None]:
    """What the driver finds wrong with the database, in Catchment's words. They hold no password."""
    try:
        yield
    except DBAPIError as error:
        raise SetupError(f"the store's database cannot be used: {_first_line(error)}") from error


def _refuse_newer(connection: Connection) -> tuple[str | None, str]:
    """The database's revision and this version's; SetupError when this version does not know the former."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_alembic(connection))
    head = str(scripts.get_current_head())
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise SetupError(
            f"the store's database has schema {current}, this version knows none after {head}: "
            "a newer Catchment made it, install that one"
        )
    return current, head


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the message could hold the URL's password
        raise SetupError(
            "database_url is no SQLAlchemy URL such as postgresql://user@host/catchment"
        ) from None
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg", query={**CONNECTION, **parsed.query})
        engine = create_engine(parsed, poolclass=QueuePool, pool_size=8, max_overflow=24, pool_pre_ping=True)
        event.listen(engine, "connect", _configure_postgres)
        return engine
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise SetupError("database_url must be postgresql://... or sqlite:///FILE")
    try:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"database_url: the file's folder cannot be made: {error}") from error
    engine = create_engine(parsed.set(drivername="sqlite"), poolclass=QueuePool, pool_size=8, max_overflow=24)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_postgres(connection: Any, _record: Any) -> None:
    connection.execute(f"SET lock_timeout = {round(1000 * LOCK_WAIT_S)}")
    connection.commit()


def _configure_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    # The time-out first: also the change to WAL waits for its turn.
    busy = f"busy_timeout={round(1000 * LOCK_WAIT_S)}"
    for pragma in (busy, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info.pop("immediate", False) else "BEGIN")


def _may_pass(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        # connection lost, insufficient resources, operator intervention, serialisation failure or deadlock;
        # and a lock that was not given in time
        return str(state)[:2] in {"08", "53", "57", "40"} or state == "55P03"
    if isinstance(error.orig, sqlite3.Error):
        return "locked" in str(error.orig) or "busy" in str(error.orig)
    return isinstance(error, OperationalError) or error.connection_invalidated


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__


def _alembic(connection: Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
