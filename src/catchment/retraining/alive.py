"""Whether a process drives a retraining: it holds a lock for as long as it lives, whatever becomes of it.

A retraining has no row of its own: what it has made says where it stands. So what a lease is for others is
here a lock of the database's session, and beside SQLite one of a file on this machine.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import func, select

from catchment.errors import InvalidField, LeaseLost
from catchment.store import Store

KIND = 0x72657472
"""Sets these locks of PostgreSQL apart from those of other things."""


@contextmanager
def driven(store: Store, run: str) -> Iterator[None]:
    """Hold the run's lock within a `with` block.

    Raises:
        LeaseLost: another process has it.
        InvalidField: this is no id of a flow run.
    """
    key = _key(run)
    if store.db.is_sqlite:
        with _file_lock(store, key, run):
            yield
        return
    # A connection of its own: the lock is its session's, and goes with it when the process dies.
    with store.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.execute(select(func.pg_try_advisory_lock(KIND, key))).scalar():
            raise LeaseLost(f"another process drives the retraining {run}")
        try:
            yield
        finally:
            connection.execute(select(func.pg_advisory_unlock(KIND, key)))


def is_driven(store: Store, run: str) -> bool:
    """Whether a process has the run's lock."""
    try:
        with driven(store, run):
            return False
    except LeaseLost:
        return True


def _key(run: str) -> int:
    """32 bits of the run's id, as PostgreSQL takes them: the last ones, for the first ones are a time."""
    try:
        return int.from_bytes(UUID(run).bytes[-4:], "big", signed=True)
    except ValueError:
        raise InvalidField("run", f"{run!r} is no id of a flow run") from None


@contextmanager
def _file_lock(store: Store, key: int, run: str) -> Iterator[None]:
    folder = store.settings.home.expanduser() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"retrain-{key & 0xFFFFFFFF:08x}").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LeaseLost(f"another process drives the retraining {run}") from None
        yield
