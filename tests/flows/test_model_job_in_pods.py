"""Flow `model_job` is the same where its steps run in pods; its tasks try again what is worth it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterName

import tasks.store
from catchment.model_jobs import manager
from flows.model_job import model_job
from tests.kubernetes_double import outcomes
from tests.library.model_jobs.conftest import ANNA, body, small_onnx, upload
from tests.library.model_jobs.kubernetes.conftest import (
    Cluster,
    cluster_api,  # noqa: F401 - fixtures
    real,  # noqa: F401
)


@pytest.fixture
def cluster(
    real: Cluster,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    prefect_server: str,
) -> Iterator[Cluster]:
    """The store of the test is the one that this process's tasks use."""
    for name, value in real.store.settings.model_dump(exclude_defaults=True).items():
        monkeypatch.setenv(f"CATCHMENT_{name.upper()}", str(value))
    tasks.store.process_store.cache_clear()
    yield real
    tasks.store.process_store().close()
    tasks.store.process_store.cache_clear()


def test_a_step_whose_pod_was_evicted_is_tried_again(cluster: Cluster, tmp_path: Path) -> None:
    cluster.api.script(outcomes.evicted("The node was low on memory."), container="executor", times=1)
    upload(cluster.store, "v1", small_onnx(tmp_path / "net.onnx"))
    manager.create(cluster.store, "default", body("in-pods", extraction={"format": "ONNX"}), ANNA)
    asyncio.run(model_job("in-pods"))
    found = cluster.job("in-pods")
    assert found["status"]["phase"] == "Succeeded", found["status"]
    made = [each for each in cluster.api.asked if (each.verb, each.resource) == ("create", "jobs")]
    assert len(made) == 2
    with get_client(sync_client=True) as client:
        named = TaskRunFilter(name=TaskRunFilterName(any_=["extract in-pods"]))
        (run,) = client.read_task_runs(task_run_filter=named)
    assert run.run_count == 2


def test_a_step_that_ran_out_of_memory_is_not(cluster: Cluster, tmp_path: Path) -> None:
    cluster.api.script(outcomes.out_of_memory(), container="executor")
    upload(cluster.store, "v1", small_onnx(tmp_path / "net.onnx"))
    manager.create(cluster.store, "default", body("too-large", extraction={"format": "ONNX"}), ANNA)
    with pytest.raises(Exception, match="container out of memory"):
        asyncio.run(model_job("too-large"))
    assert cluster.job("too-large")["status"]["phase"] == "Failed"
    assert len(cluster.jobs()) == 1
