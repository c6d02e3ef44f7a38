"""A cluster of the double whose pods run at once, and backends over it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from catchment.kubernetes.client import Cluster
from catchment.serving.backends.kubernetes import KubernetesBackend
from tests.kubernetes_double import outcomes
from tests.kubernetes_double.double import KubernetesDouble
from tests.serving_workloads import settings


@pytest.fixture
def api() -> Iterator[KubernetesDouble]:
    with KubernetesDouble(namespaces=("default", "models")) as running:
        running.script(outcomes.succeeds("fetched"), container="classifier-model-initializer")
        yield running


@pytest.fixture
def cluster(api: KubernetesDouble) -> Iterator[Cluster]:
    configuration = api.client_configuration()
    configuration.retries = False
    with Cluster(settings(), configuration) as opened:
        yield opened


@pytest.fixture
def backend(cluster: Cluster) -> KubernetesBackend:
    return KubernetesBackend(settings(), cluster)
