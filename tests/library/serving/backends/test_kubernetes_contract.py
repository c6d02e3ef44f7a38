"""The Kubernetes backend does what all backends do; its pods' programs really run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubernetes_double.double import KubernetesDouble
from tests.library.serving.backend_contract import BackendContract
from tests.registry_servers import docker_registry
from tests.serving_nodes import KubernetesHarness

pytestmark = [pytest.mark.needs("docker-registry"), pytest.mark.needs("htpasswd")]


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesHarness]:
    folder = tmp_path_factory.mktemp("cluster")
    with docker_registry(folder / "registry", login=True) as registry, KubernetesDouble() as api:
        made = KubernetesHarness(api, registry, folder)
        yield made
        made.close()


class TestKubernetesBackend(BackendContract):
    """The whole suite."""
