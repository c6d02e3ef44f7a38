"""Stores of their own for tests: SQLite unless a test asks for both databases, and a clock that it sets."""

from __future__ import annotations

import math
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from catchment.models.tensors import write_tensors
from catchment.settings import Settings
from catchment.stack.postgres import EmbeddedPostgres
from catchment.store import Store, migrate, open_store
from tests.thread_sites import INITIAL

BOTH = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
"""Marks a test whose statements the databases run differently."""


class Clock:
    """Seconds since the epoch, as the test says."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    steady_s = math.inf

    def __call__(self) -> float:
        return self.time

    def now(self, _connection: Any) -> float:
        return self.time

    def forward(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy: faster than a migration for every test."""
    home = tmp_path_factory.mktemp("migrated")
    migrate(Settings(home=home))
    return home / "catchment.db"


@pytest.fixture(scope="session")
def migrated_postgres(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same as a PostgreSQL database's name."""
    url = postgres.create_database("migrated")
    migrate(Settings(home=tmp_path_factory.mktemp("migrated"), database_url=url))
    return "migrated"


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLite, or what `BOTH` asks for."""
    if getattr(request, "param", "sqlite") == "sqlite":
        shutil.copyfile(request.getfixturevalue("migrated"), tmp_path / "store.db")
        return f"sqlite:///{tmp_path / 'store.db'}"
    template: str = request.getfixturevalue("migrated_postgres")
    server: EmbeddedPostgres = request.getfixturevalue("postgres")
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return server.url(name)


@pytest.fixture
def clock() -> Clock:
    """The store's clock."""
    return Clock()


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """The store's settings; a test file may have its own."""
    return Settings(home=tmp_path / "home", database_url=database_url)


@pytest.fixture
def store(settings: Settings, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """An empty store with the namespace `default`, whose folder holds `models/init.safetensors`."""
    opened = open_store(settings)
    opened.db.clock = clock
    opened.files.make_namespace("default")
    write_tensors(tmp_path / "init.safetensors", INITIAL)
    opened.files.write_file("default", "models/init.safetensors", tmp_path / "init.safetensors")
    yield opened
    opened.close()
