"""One real kube-apiserver for the tests of this folder; without its binaries they are skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from catchment.kubernetes.client import Cluster
from catchment.serving.backends.kubernetes import KubernetesBackend
from tests.kubernetes_double import outcomes
from tests.real_kubernetes import definitions
from tests.real_kubernetes.cluster import RealCluster
from tests.real_kubernetes.older import OlderCluster
from tests.real_kubernetes.remote import RemoteObjects
from tests.real_kubernetes.server import Running, binaries, running
from tests.serving_workloads import settings


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """It knows the custom resources of servings."""
    found = binaries()
    if found.lacking:
        pytest.skip(found.lacking)
    with running(found, tmp_path_factory.mktemp("apiserver")) as server:
        objects = RemoteObjects(server)
        definitions.install(objects)
        objects.close()
        yield server


@pytest.fixture
def api(apiserver: Running) -> Iterator[RealCluster]:
    """A cluster with nothing in it, whose pods run at once."""
    with RealCluster(apiserver, ("default", "models")) as cluster:
        cluster.script(outcomes.succeeds("fetched"), container="classifier-model-initializer")
        yield cluster


@pytest.fixture
def cluster(api: RealCluster) -> Iterator[Cluster]:
    with OlderCluster(settings(), api.client_configuration()) as opened:
        yield opened


@pytest.fixture
def backend(cluster: Cluster) -> KubernetesBackend:
    return KubernetesBackend(settings(), cluster)
