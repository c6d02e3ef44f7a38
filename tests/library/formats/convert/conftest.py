"""A converter whose environments are built once for all test runs, and sample models made in them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from catchment.formats.convert.conversion import Converter
from catchment.formats.convert.environments import Environments
from catchment.formats.convert.isolation import Isolation
from catchment.formats.convert.running import Bounds, Runner
from tests.model_files.environments import environments_folder, run_maker


@dataclass(frozen=True)
class Made:
    """Sample models, by the names of their folders; a file that hostile ones would write, a port to call."""

    folder: Path
    canary: Path
    port: int

    def __getitem__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="session")
def environments() -> Environments:
    return Environments(environments_folder(), build_s=900)


@pytest.fixture(scope="session")
def isolation(tmp_path_factory: pytest.TempPathFactory) -> Isolation:
    return Isolation.tried_out(tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="session")
def make_converter(environments: Environments, isolation: Isolation) -> Callable[..., Converter]:
    """Makes converters with other bounds."""

    def make(**bounds: float) -> Converter:
        return Converter(environments, Runner(Bounds(**bounds), isolation))  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def converter(make_converter: Callable[..., Converter]) -> Converter:
    return make_converter(timeout_s=200)


@pytest.fixture(scope="session")
def make_models(
    environments: Environments, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Made]]:
    """Runs a backend's maker in the backend's own environment."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]

    def make(backend: str) -> Made:
        folder = tmp_path_factory.mktemp(f"{backend}-models")
        # Where a child could write, were it not confined: the parent of nothing that it is shown.
        canary = tmp_path_factory.mktemp("canary") / "canary"
        run_maker(environments, backend, f"{backend}_models.py", folder, canary, port)
        return Made(folder, canary, port)

    with listening:
        yield make


@pytest.fixture(scope="session")
def sklearn_models(make_models: Callable[[str], Made]) -> Made:
    return make_models("sklearn")


@pytest.fixture(scope="session")
def tensorflow_models(make_models: Callable[[str], Made]) -> Made:
    return make_models("tensorflow")


@pytest.fixture(scope="session")
def torch_models(make_models: Callable[[str], Made]) -> Made:
    return make_models("torch")
