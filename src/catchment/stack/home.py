"""The home folder of an installation on one machine: its lock, its logs, which database it uses."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from catchment.errors import SetupError
from catchment.settings import Settings
from catchment.stack.postgres import EmbeddedPostgres, running_url

DatabaseKind = Literal["postgres", "sqlite"]
STORE_DATABASE = "catchment"
PREFECT_DATABASE = "prefect"


def make_home(home: Path) -> Path:
    """The absolute home folder, made when it is not there; ours alone, since it holds data and tokens.

    Raises:
        SetupError: it cannot be made or written.
    """
    home = home.expanduser().absolute()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        (home / "logs").mkdir(exist_ok=True)
    except OSError as error:
        raise SetupError(f"the home folder {home} cannot be made: {error.strerror}") from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise SetupError(f"the home folder {home} cannot be written")
    return home


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the home for one `catchment up`.

    Raises:
        SetupError: another one runs on it.
    """
    with (home / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise SetupError(
                f"another 'catchment up' (process {holder}) runs on {home}; stop it, or give another --home"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def recorded_database(home: Path) -> DatabaseKind | None:
    """Which database the home's store has been kept in; None for a new home."""
    try:
        kind = (home / "database").read_text().strip()
    except FileNotFoundError:
        return None
    if kind == "postgres":
        return "postgres"
    if kind == "sqlite":
        return "sqlite"
    raise SetupError(f"{home / 'database'} must say postgres or sqlite")


def choose_database(home: Path, *, sqlite: bool) -> DatabaseKind:
    """The database for the home's store: what it had before; PostgreSQL for a new home unless `sqlite`.

    Raises:
        SetupError: SQLite is asked for, but the home's jobs are in PostgreSQL.
    """
    before = recorded_database(home)
    if sqlite and before == "postgres":
        raise SetupError(
            f"the jobs of {home} are in its PostgreSQL; leave --sqlite out, or give another --home"
        )
    return before or ("sqlite" if sqlite else "postgres")


def record_database(home: Path, kind: DatabaseKind) -> None:
    """Remember the choice; called once the database has worked, so that a failed first start binds nobody."""
    (home / "database").write_text(kind + "\n")


def sqlite_url(home: Path) -> str:
    """URL of the store in the home's SQLite file."""
    return f"sqlite:///{home / 'catchment.db'}"


@contextlib.contextmanager
def store_settings(home: Path, database_url: str = "") -> Iterator[Settings]:
    """Settings for work on a home's store from outside of `catchment up`.

    Where the store is in the home's PostgreSQL and nobody runs it, it runs for as long as the context.

    Raises:
        SetupError: it cannot run here.
    """
    home = make_home(home)
    if database_url:
        yield Settings(home=home, database_url=database_url)
        return
    if choose_database(home, sqlite=False) == "sqlite":
        yield Settings(home=home, database_url=sqlite_url(home))
        return
    folder = home / "postgres"
    url = running_url(folder, STORE_DATABASE)
    if url is not None:
        yield Settings(home=home, database_url=url)
        return
    with locked(home), EmbeddedPostgres(folder) as server:
        record_database(home, "postgres")
        yield Settings(home=home, database_url=server.create_database(STORE_DATABASE))
