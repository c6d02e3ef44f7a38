"""The command in-process, against a table server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from catchment.cli.main import catchment
from tests.library.client.server import TableServer


@pytest.fixture
def server() -> Iterator[TableServer]:
    running = TableServer()
    yield running
    running.close()


@pytest.fixture
def command(server: TableServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `catchment ARGUMENTS`; the server's address is in the environment."""
    for name in ("CATCHMENT_TOKEN", "CATCHMENT_NAMESPACE", "CATCHMENT_HOME", "CATCHMENT_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CATCHMENT_SERVER", server.url)

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(catchment, arguments, input=stdin)

    return run
