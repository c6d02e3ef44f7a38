"""Transactions, migrations and their failures on both databases."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import OperationalError

from catchment.errors import NotFound, SetupError, Unreachable
from catchment.jobs import namespaces as namespace_rules
from catchment.settings import Settings
from catchment.store import Store, migrate, open_store
from catchment.store.clock import WatchedClock
from catchment.store.database import Database
from catchment.store.schema import metadata, namespaces

MIGRATE = "from catchment.settings import Settings; from catchment.store import migrate; migrate(Settings())"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database of each kind."""
    opened = Database(database_url)
    opened.migrate()
    yield opened
    opened.close()


def add(name: str) -> Callable[[Any], Any]:
    return lambda tx: tx.execute(insert(namespaces).values(name=name, created_at=tx.now))


def names(database: Database) -> list[str]:
    return database.read(
        lambda tx: list(tx.execute(select(namespaces.c.name).order_by(namespaces.c.name)).scalars())
    )


def test_a_step_that_returns_is_committed_and_its_value_is_the_answer(database: Database) -> None:
    assert database.write(lambda tx: (add("a")(tx), "value")[1]) == "value"
    assert names(database) == ["a"]


def test_a_step_that_raises_changes_nothing(database: Database) -> None:
    def step(tx: Any) -> None:
        add("a")(tx)
        raise KeyError("on purpose")

    with pytest.raises(KeyError):
        database.write(step)
    assert names(database) == []


def test_a_transaction_has_one_time(database: Database) -> None:
    ticks = iter(range(100, 200))
    database.clock = WatchedClock(lambda _connection: float(next(ticks)))
    assert database.write(lambda tx: (tx.now, tx.now)) == (100.0, 100.0)
    assert database.read(lambda tx: tx.now) == 101.0


def test_a_reader_sees_one_state_whatever_is_committed_meanwhile(database: Database) -> None:
    def step(tx: Any) -> tuple[int, int]:
        count = text("SELECT count(*) FROM namespaces")
        before = tx.execute(count).scalar()
        writer = threading.Thread(target=lambda: database.write(add("meanwhile")))
        writer.start()
        writer.join(10)
        return before, tx.execute(count).scalar()

    assert database.read(step) == (0, 0)
    assert names(database) == ["meanwhile"]


def test_writers_at_once_lose_nothing(database: Database) -> None:
    database.write(lambda tx: tx.execute(insert(namespaces).values(name="counter", created_at=0.0)))

    def count() -> None:
        for _ in range(10):
            database.write(step)

    def step(tx: Any) -> None:
        row = tx.execute(select(namespaces).where(namespaces.c.name == "counter").with_for_update()).one()
        tx.execute(namespaces.update().values(created_at=row.created_at + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert database.read(lambda tx: tx.execute(select(namespaces.c.created_at)).scalar()) == 40.0


def test_a_name_with_nul_is_not_found(database: Database) -> None:
    def look(tx: Any) -> Any:
        return tx.execute(select(namespaces).where(namespaces.c.name == "a\x00b")).first()

    if database.is_sqlite:
        assert database.read(look) is None
    else:
        with pytest.raises(NotFound, match="NUL"):
            database.read(look)


# Waiting for what passes


def test_a_locked_sqlite_is_waited_for(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    try:
        database.migrate()
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, lambda: (other.execute("COMMIT"), other.close()))
        release.start()
        database.write(add("after all"))
        release.join(10)
        assert names(database) == ["after all"]
    finally:
        database.close()


def test_a_sqlite_that_says_locked_is_tried_again(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    try:
        database.migrate()
        tries = []

        def step(tx: Any) -> None:
            tries.append(1)
            add("x")(tx)
            if len(tries) < 3:
                raise OperationalError("", {}, sqlite3.OperationalError("database is locked"))

        database.write(step)
        assert len(tries) == 3
        assert names(database) == ["x"]
    finally:
        database.close()


def test_a_database_that_stays_locked_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from catchment.store import database as module

    monkeypatch.setattr(module, "TRIES", 2)
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")

    def step(tx: Any) -> None:
        raise OperationalError("SELECT secret", {}, sqlite3.OperationalError("database is locked"))

    with pytest.raises(Unreachable, match=r"^the database does not answer: database is locked$"):
        database.write(step)
    database.close()


def test_a_killed_backend_is_replaced(new_database: Callable[[], str]) -> None:
    url = new_database()
    database, killer = Database(url), Database(url)
    try:
        database.migrate()
        tries = []

        def step(tx: Any) -> None:
            add("x")(tx)
            tries.append(tx.execute(text("SELECT pg_backend_pid()")).scalar())
            if len(tries) == 1:
                killer.write(
                    lambda other: other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": tries[0]})
                )
            tx.execute(text("SELECT 1"))

        database.write(step)
        assert len(tries) == 2
        assert tries[0] != tries[1]
        assert names(database) == ["x"]
    finally:
        database.close()
        killer.close()


# Migrations


def test_migrating_twice_is_harmless(database_url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", database_url=database_url)
    for _ in range(2):
        migrate(settings)
    store = open_store(settings)
    assert [row["name"] for row in namespace_rules.list_all(store)] == ["default"]
    assert (tmp_path / "home" / "namespaces" / "default").is_dir()
    store.close()


def test_four_processes_may_migrate_at_once(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CATCHMENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CATCHMENT_DATABASE_URL", database_url)
    children = [
        subprocess.Popen([sys.executable, "-c", MIGRATE], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(4)
    ]
    told = [child.communicate(timeout=60)[0].decode() for child in children]
    assert [child.returncode for child in children] == [0] * 4, "\n".join(told)
    open_store(Settings()).close()


def test_the_migrations_make_what_the_schema_says(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_an_unmigrated_database_is_refused_with_the_way_out(database_url: str) -> None:
    database = Database(database_url)
    with pytest.raises(
        SetupError, match=r"schema none, this version needs \d+; run 'catchment store migrate'"
    ):
        database.check_version()
    database.close()


def test_the_database_of_a_newer_catchment_is_refused_and_left_alone(database: Database) -> None:
    database.write(lambda tx: tx.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    for operation in (database.check_version, database.migrate):
        with pytest.raises(SetupError, match=r"schema 9999.*a newer Catchment"):
            operation()
    assert (
        database.read(lambda tx: tx.execute(text("SELECT version_num FROM alembic_version")).scalar())
        == "9999"
    )


# Wrong URLs


@pytest.mark.parametrize(
    "url",
    [
        "no url at all",
        "mysql://user:hunter2@host/db",
        "postgresql://user:hunter2@host:port/db",
        "postgresql//user:hunter2@host/db",
        "sqlite://",
        "sqlite:///:memory:",
        "oracle+nothing://user:hunter2@host",
        "://hunter2",
        "/just/a/path",
    ],
)
def test_a_url_that_cannot_work_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SetupError, match="database_url") as raised:
        Database(url)
    shown = f"{raised.value} {raised.value.__cause__}"
    assert "hunter2" not in shown


def test_a_database_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is a text file, and a long one" * 100)
    for path, words in ((tmp_path / "text", "not a database"), (tmp_path, "unable to open")):
        database = Database(f"sqlite:///{path}")
        with pytest.raises(SetupError, match=words):
            database.check_version()
        database.close()
    with pytest.raises(SetupError, match="folder cannot be made"):
        Database(f"sqlite:///{tmp_path / 'text' / 'below.db'}")


def test_a_server_that_is_not_there_is_unreachable_without_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from catchment.store import database as module
    from tests.conftest import free_port

    monkeypatch.setattr(module, "TRIES", 2)
    database = Database(f"postgresql://user:hunter2@127.0.0.1:{free_port()}/db")
    with pytest.raises(Unreachable, match="the database does not answer") as raised:
        database.check_version()
    assert "hunter2" not in f"{raised.value} {raised.value.__cause__}"
    database.close()


def test_any_driver_in_the_url_means_ours(tmp_path: Path, new_database: Callable[[], str]) -> None:
    file = f"sqlite+aiosqlite:///{tmp_path / 'store.db'}"
    for url in (file, new_database().replace("postgresql://", "postgresql+asyncpg://", 1)):
        database = Database(url)
        database.migrate()
        database.check_version()
        database.close()


# Storage


def test_storage_by_plain_path_and_by_url(tmp_path: Path) -> None:
    for url, folder in (
        (str(tmp_path / "a b%20#1"), tmp_path / "a b%20#1"),
        ((tmp_path / "c d%20#1").as_uri(), tmp_path / "c d%20#1"),
    ):
        store = Store(Settings(home=tmp_path / "home", storage_url=url))
        store.files.make_namespace("default")
        assert (folder / "namespaces" / "default").is_dir()
        store.close()


def test_a_storage_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="storage_url: nonsense://"):
        Store(Settings(home=tmp_path, storage_url="nonsense://bucket"))
