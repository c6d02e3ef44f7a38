"""The backends over KServe and Seldon do what all backends do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubernetes_double.double import KubernetesDouble
from tests.library.serving.backend_contract import BackendContract
from tests.serving_operators import OperatorHarness


@pytest.fixture(scope="module", params=["kserve", "seldon"])
def harness(request: pytest.FixtureRequest) -> Iterator[OperatorHarness]:
    with KubernetesDouble() as api:
        made = OperatorHarness(api, request.param)
        yield made
        made.close()


class TestBackendsOfOperators(BackendContract):
    """The whole suite; inferences are left out, since nothing here serves."""
