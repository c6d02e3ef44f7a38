"""Lists by Harbor's own API, and how Harbor is recognised."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest

from catchment.errors import NotFound, Unauthorized, Unreachable
from catchment.registry.artifacts import OCI_MANIFEST, digest_of
from catchment.registry.credentials import Credentials
from catchment.registry.distribution import DistributionRegistry
from catchment.registry.harbor import HarborRegistry, recognise
from catchment.registry.session import Session
from tests.conftest import free_port
from tests.faulty_registry import FaultyRegistry
from tests.harbor_double import Harbor, harbor
from tests.library.registry.conftest import IMPATIENT
from tests.registry_servers import PASSWORD, USER

CONFIG = "application/vnd.caicloud.model.config.v1alpha1+json"


@pytest.fixture
def server() -> Iterator[Harbor]:
    with harbor() as made:
        made.projects = {
            "project": {
                "model": [
                    {
                        "digest": digest_of(b"one"),
                        "size": 42,
                        "type": "MODEL",
                        "media_type": CONFIG,
                        "manifest_media_type": OCI_MANIFEST,
                        "push_time": "2026-05-01T10:00:00.000Z",
                        "tags": [{"name": "v2"}, {"name": "v1"}],
                    },
                    {"digest": digest_of(b"two"), "size": 7, "media_type": CONFIG, "tags": None},
                ],
                "deep/er": [{"digest": digest_of(b"deep"), "tags": [{"name": "v9"}]}],
            },
            "many": {f"model-{n:03}": [] for n in range(250)},
        }
        yield made


def opened(host: str, login: Credentials | None = None) -> DistributionRegistry:
    return recognise(DistributionRegistry(Session(host, login, patience=IMPATIENT)))


@pytest.fixture
def client(server: Harbor) -> Iterator[HarborRegistry]:
    made = opened(server.host, Credentials(USER, PASSWORD))
    assert isinstance(made, HarborRegistry)
    yield made
    made.close()


def test_projects_and_repositories_come_page_by_page(client: HarborRegistry, server: Harbor) -> None:
    assert client.projects() == ["many", "project"]
    assert client.repositories("project") == ["project/deep/er", "project/model"]
    assert client.repositories("many") == [f"many/model-{n:03}" for n in range(250)]
    assert len(client.repositories()) == 252
    assert sum("projects/many/repositories" in path for path in server.asked) == 3


def test_artifacts_show_what_harbor_knows(client: HarborRegistry) -> None:
    first, second = client.artifacts("project/model")
    assert (first.digest, first.tags, first.size) == (digest_of(b"one"), ("v1", "v2"), 42)
    assert (first.artifact_type, first.media_type) == (CONFIG, OCI_MANIFEST)
    assert first.pushed == datetime.datetime(2026, 5, 1, 10, tzinfo=datetime.UTC)
    assert (second.digest, second.tags, second.pushed) == (digest_of(b"two"), (), None)


def test_a_slash_in_a_name_is_encoded_twice(client: HarborRegistry, server: Harbor) -> None:
    (found,) = client.artifacts("project/deep/er")
    assert found.tags == ("v9",)
    assert "/repositories/deep%252Fer/artifacts" in server.asked[-1]


def test_what_is_not_there_is_not_found(client: HarborRegistry) -> None:
    with pytest.raises(NotFound, match="the repositories of nobody"):
        client.repositories("nobody")
    with pytest.raises(NotFound, match="the artifacts of project/none"):
        client.artifacts("project/none")


def test_a_missing_login_is_told(server: Harbor) -> None:
    client = opened(server.host)
    with pytest.raises(Unauthorized, match="catchment registry login"):
        client.repositories()
    client.close()


def test_another_registry_is_not_taken_for_harbor(faulty: FaultyRegistry) -> None:
    client = opened(faulty.host)
    assert type(client) is DistributionRegistry
    client.close()


def test_a_server_that_is_down_is_no_answer() -> None:
    with pytest.raises(Unreachable):
        opened(f"127.0.0.1:{free_port()}")
