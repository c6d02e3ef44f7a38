"""ModelJobs whose steps are Jobs of a real API server have the fates that they have at the double."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubernetes_double.node import ClusterWithNode
from tests.library.model_jobs.kubernetes import conftest as at_the_double
from tests.library.model_jobs.kubernetes import test_fates as fates
from tests.library.model_jobs.kubernetes import test_real_pods as real_pods
from tests.real_kubernetes.cluster import RealCluster
from tests.real_kubernetes.server import Running

for _name in (
    "test_a_failed_pod_fails_the_job_with_its_words_and_its_log",
    "test_a_pod_that_waits_makes_the_job_pending_and_fails_it_in_the_end",
    "test_another_try_makes_another_job",
    "test_another_try_does_not_go_on_with_a_job_whose_pod_is_lost",
    "test_a_token_that_was_taken_from_a_waiting_pod_is_given_again",
    "test_a_stop_takes_the_job_away_within_ten_seconds",
    "test_what_is_deleted_from_outside_can_be_tried_again",
):
    globals()[_name] = getattr(fates, _name)
test_an_extraction_in_a_pod_finds_what_one_here_finds = (
    real_pods.test_an_extraction_in_a_pod_finds_what_one_here_finds
)


@pytest.fixture
def cluster_api(apiserver: Running) -> Iterator[ClusterWithNode]:
    with RealCluster(apiserver) as api:
        yield api


clock, scripted = at_the_double.clock, at_the_double.scripted
real = at_the_double.real
