"""Every backend behind one fixture: a layout folder, docker-registry in four ways."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catchment.registry.backend import Registry
from catchment.registry.credentials import Credentials
from catchment.registry.distribution import DistributionRegistry
from catchment.registry.layout import LayoutRegistry
from catchment.registry.patience import Patience
from catchment.registry.session import Session
from catchment.tls.authority import Authority
from tests.faulty_registry import FaultyRegistry, faulty_registry
from tests.registry_servers import Server, docker_registry, token_issuer

IMPATIENT = Patience(attempts=4, low_s=0.01, high_s=0.05, deadline_s=5)
SERVERS = ("plain", "htpasswd", "tls", "tokens")
NEEDED = [pytest.mark.needs("docker-registry"), pytest.mark.needs("htpasswd")]


def connect(server: Server, *, timeout_s: float = 20) -> DistributionRegistry:
    """A client with the server's login and authority."""
    login = Credentials(server.username, server.password) if server.username else None
    session = Session(server.host, login, ca_file=server.ca_file, timeout_s=timeout_s, patience=IMPATIENT)
    return DistributionRegistry(session)


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Starts each kind of docker-registry once."""
    started: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:

        def start(kind: str) -> Server:
            if kind not in started:
                folder = tmp_path_factory.mktemp(kind)
                tls, issuer = None, None
                if kind == "tls":
                    tls = Authority(folder / "authority")
                    tls.create([], [])
                if kind == "tokens":
                    issuer = stack.enter_context(token_issuer(folder))
                started[kind] = stack.enter_context(
                    docker_registry(folder / "registry", login=kind == "htpasswd", tls=tls, issuer=issuer)
                )
            return started[kind]

        yield start


@pytest.fixture(params=["layout", *(pytest.param(each, marks=NEEDED) for each in SERVERS)])
def registry(
    request: pytest.FixtureRequest, tmp_path: Path, start_server: Callable[[str], Server]
) -> Iterator[Registry]:
    """Each backend in turn."""
    made: Registry
    if request.param == "layout":
        made = LayoutRegistry(tmp_path / "layout")
    else:
        made = connect(start_server(request.param))
    yield made
    made.close()


@pytest.fixture
def repository() -> str:
    """A repository that no other test uses."""
    return f"project-{secrets.token_hex(6)}/model"


@pytest.fixture
def faulty() -> Iterator[FaultyRegistry]:
    with faulty_registry() as made:
        yield made


@pytest.fixture
def client(faulty: FaultyRegistry) -> Iterator[DistributionRegistry]:
    """A client of the faulty registry, without a login."""
    made = DistributionRegistry(Session(faulty.host, timeout_s=2, patience=IMPATIENT))
    yield made
    made.close()
