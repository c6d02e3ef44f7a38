"""A cluster of the double, and Catchment's client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from catchment.kubernetes.client import Cluster
from catchment.settings import Settings
from tests.kubernetes_double.double import KubernetesDouble


@pytest.fixture
def api() -> Iterator[KubernetesDouble]:
    with KubernetesDouble() as running:
        yield running


@pytest.fixture
def cluster(api: KubernetesDouble) -> Iterator[Cluster]:
    configuration = api.client_configuration()
    configuration.retries = False
    with Cluster(Settings(), configuration) as opened:
        yield opened
