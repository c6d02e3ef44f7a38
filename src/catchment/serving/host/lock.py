"""One serving host for each store and each home: two would start everything twice.

Whoever holds the lock loses it by its death, however it dies: PostgreSQL sees the connection close, and the
kernel the file.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from catchment.errors import Unreachable
from catchment.store import Store

LOCK = 0x63617463, 0x686F7374
"""Key of the advisory lock in PostgreSQL."""


class HostLock:
    """The right to run the store's workloads.

    Args:
        store: whose workloads.
        folder: of the home's servings.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._home = _FileLock(folder / "host.lock")
        self._database = _database_lock(store)

    def hold(self) -> bool:
        """Take the lock, or see that it is still held; False: another host has it.

        Raises:
            Unreachable: the database does not answer. Whoever held the lock may have lost it.
        """
        return self._home.hold() and self._database.hold()

    def close(self) -> None:
        """Give it back."""
        self._database.close()
        self._home.close()


def is_running(store: Store) -> bool:
    """Whether a serving host works for the store. Raises Unreachable."""
    if store.db.is_sqlite:
        lock = _FileLock(_beside_database(store))
        try:
            return not lock.hold(shared=True)
        finally:
            lock.close()
    held = text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 "
        "AND CAST(classid AS bigint) = :first AND CAST(objid AS bigint) = :second "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    names = dict(zip(("first", "second"), LOCK, strict=True))
    return bool(store.db.read(lambda tx: tx.execute(held, names).scalar()))


def _database_lock(store: Store) -> _FileLock | _PostgresLock:
    return _FileLock(_beside_database(store)) if store.db.is_sqlite else _PostgresLock(store)


def _beside_database(store: Store) -> Path:
    return Path(f"{store.db.engine.url.database}.serving-host")


class _FileLock:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def hold(self, *, shared: bool = False) -> bool:
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _PostgresLock:
    """Held by a connection of its own, for as long as that lives."""

    def __init__(self, store: Store) -> None:
        self._engine = store.db.engine
        self._connection: Connection | None = None

    def hold(self) -> bool:
        try:
            if self._connection is not None:
                self._connection.execute(text("SELECT 1"))
                self._connection.commit()
                return True
            return self._take()
        except DBAPIError as error:
            self.close()
            raise Unreachable(f"the database does not answer: {type(error.orig).__name__}") from error

    def _take(self) -> bool:
        connection = self._engine.connect()
        connection.detach()  # the pool would keep it open, with its lock
        first, second = LOCK
        wish = {"first": first, "second": second}
        taken = connection.execute(text("SELECT pg_try_advisory_lock(:first, :second)"), wish).scalar()
        connection.commit()  # the lock is the connection's, and not the transaction's
        if taken:
            self._connection = connection
        else:
            connection.close()
        return bool(taken)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
