"""A table server and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from catchment.client import Client
from tests.library.client.server import TableServer


@pytest.fixture
def server() -> Iterator[TableServer]:
    running = TableServer()
    yield running
    running.close()


@pytest.fixture
def client(server: TableServer) -> Iterator[Client]:
    with Client(server.url, timeout_s=5) as made:
        yield made
