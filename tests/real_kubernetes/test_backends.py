"""The backends of servings at a real API server: what they do at the double, they do there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.library.serving.backend_contract import BackendContract
from tests.library.serving.backends import test_kubernetes_backend as plain
from tests.library.serving.backends import test_readiness_gate as gate
from tests.real_kubernetes.cluster import RealCluster
from tests.real_kubernetes.server import Running
from tests.serving_operators import OperatorHarness

for _name in (
    "test_applying_again_changes_nothing",
    "test_one_replica_has_no_disruption_budget",
    "test_what_others_have_set_is_set_back_and_told",
    "test_objects_of_others_are_left_alone",
    "test_what_an_earlier_serving_of_the_name_left_is_replaced",
    "test_a_workload_that_somebody_deleted_is_absent_and_comes_back",
    "test_a_pod_that_somebody_deleted_is_replaced",
    "test_what_cannot_come_up_has_failed",
    "test_one_bad_replica_beside_a_good_one_is_no_failure",
    "test_a_runtime_without_grpc_has_no_address_for_it",
    "test_the_route_holds_the_weights",
    "test_weights_that_somebody_changed_are_set_back",
    "test_logs_are_those_of_servings_only",
    "test_everything_can_run_in_one_namespace_of_the_cluster",
    "test_resources_that_the_cluster_refuses_are_told_by_field",
):
    globals()[_name] = getattr(plain, _name)
test_pods_wait_until_they_are_verified = gate.test_pods_wait_until_they_are_verified


@pytest.fixture(scope="module", params=["kserve", "seldon"])
def harness(request: pytest.FixtureRequest, apiserver: Running) -> Iterator[OperatorHarness]:
    with RealCluster(apiserver) as api:
        made = OperatorHarness(api, request.param)
        yield made
        made.close()


class TestBackendsOfOperators(BackendContract):
    """The whole suite; inferences are left out, since nothing here serves."""
