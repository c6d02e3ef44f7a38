"""What is made of a cluster's words on a workload."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.serving.backends.observing import (
    is_ready,
    of_custom,
    of_deployment,
    older_than,
    pods_trouble,
)

counts = st.integers(0, 4)


def deployment(wanted: int, observed: int = 2, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"generation": 2},
        "spec": {"replicas": wanted},
        "status": {"observedGeneration": observed, **status},
    }


def pod(state: dict[str, Any], restarts: int = 0, command: str = "x", ready: bool = False) -> dict[str, Any]:
    status = {"name": "c", "state": state, "restartCount": restarts}
    return {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "command": ["python", "-m", command]}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [status],
        },
    }


def crashed(code: int, restarts: int = 1, command: str = "x", said: str = "") -> dict[str, Any]:
    waiting = {"reason": "CrashLoopBackOff"}
    made = pod({"waiting": waiting}, restarts, command)
    ended = {"exitCode": code, "reason": "Error", "message": said}
    made["status"]["containerStatuses"][0]["lastState"] = {"terminated": ended}
    return made


@given(counts, counts, counts, counts, st.booleans())
def test_only_a_settled_deployment_is_ready(
    replicas: int, total: int, updated: int, available: int, seen: bool
) -> None:
    found = deployment(
        replicas,
        observed=2 if seen else 1,
        replicas=total,
        updatedReplicas=updated,
        availableReplicas=available,
    )
    told = of_deployment(found, [])
    whole = seen and total == updated == available == replicas
    assert (told.state == "ready") is whole
    assert told.replicas == replicas
    assert 0 <= told.ready <= replicas


def test_a_status_of_an_earlier_generation_says_nothing() -> None:
    failed = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    assert of_deployment(deployment(1, observed=1, conditions=[failed]), []).state == "starting"
    assert of_deployment(deployment(1, conditions=[failed]), []).state == "failed"


def test_pods_that_cannot_be_made_are_told() -> None:
    quota = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpu"}
    told = of_deployment(deployment(1, conditions=[quota]), [])
    assert (told.state, told.message) == ("starting", "pods cannot be created: exceeded quota: gpu")


@pytest.mark.parametrize(
    ("found", "hopeless"),
    [
        (crashed(1, restarts=1), False),
        (crashed(1, restarts=3), True),
        (crashed(3, restarts=1, command="api.model_server"), True),
        (crashed(3, restarts=1, command="tritonserver"), False),
        (crashed(137, restarts=1, command="api.model_server"), False),
        (pod({"waiting": {"reason": "ImagePullBackOff"}}), False),
        (pod({"waiting": {"reason": "InvalidImageName"}}), True),
    ],
)
def test_hopeless_is_what_no_other_try_mends(found: dict[str, Any], hopeless: bool) -> None:
    (trouble,) = pods_trouble([found])
    assert trouble.hopeless is hopeless
    assert trouble.message.startswith("pod p: ")


def test_the_last_words_of_a_container_are_told() -> None:
    (trouble,) = pods_trouble([crashed(1, said="loading\nBadArtifact: no model in there\n")])
    assert trouble.message.endswith(": BadArtifact: no model in there")


def test_pods_that_end_or_are_ready_are_no_trouble() -> None:
    ending = crashed(1, restarts=9)
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pods_trouble([ending, pod({"running": {}}, ready=True)]) == []
    assert not is_ready({**pod({}, ready=True), "metadata": {"deletionTimestamp": "x"}})


@given(st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_a_custom_workload_is_ready_when_all_its_pods_are(ready: int, other: int, settled: bool) -> None:
    pods = [pod({"running": {}}, ready=True)] * ready + [pod({"running": {}})] * other
    told = of_custom(pods, ready + other, settled=settled, failure="", late=False)
    assert (told.state == "ready") is (settled and other == 0)
    assert of_custom(pods, ready, settled=True, failure="", late=False).ready == ready


def test_times_that_are_none_are_not_long_ago() -> None:
    assert older_than("2026-01-01T00:00:00Z", 10, 1.8e9)
    assert not older_than("2026-01-01T00:00:00Z", 1e9, 1.8e9)
    assert not older_than(None, 1, 1.8e9)
    assert not older_than("yesterday", 1, 1.8e9)
