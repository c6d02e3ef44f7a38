"""A serving behind the gateway of a real API process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catchment.settings import Settings
from catchment.store import Store, open_store
from tests.api.serving import ApiProcess, api_process
from tests.api.serving_rows import add_endpoint, add_serving, add_workload
from tests.conftest import free_port
from tests.model_servers import ModelServer, identity, serving


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    opened = open_store(Settings(home=home))
    yield opened
    opened.close()


@pytest.fixture
def running(home: Path) -> Iterator[ApiProcess]:
    with api_process(home, free_port()) as process:
        yield process


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ModelServer]:
    """A server that gives back what it gets, called `m`."""
    folder = identity(tmp_path / "model", "FP32")
    with serving(folder, tmp_path / "model.log") as server:
        yield server


@pytest.fixture
def uid(store: Store, model: ModelServer) -> str:
    """The serving `m` on one server."""
    made = add_serving(store, "m", {"m-default-r1": 100})
    add_workload(store, made, "m-default-r1")
    add_endpoint(store, made, "m-default-r1", model.http)
    return made
