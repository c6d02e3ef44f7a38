"""Rollouts of a running system: traffic while they go, killed and cancelled flows, a person's approval."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.conftest import wait_until
from tests.library.serving.conftest import classifier

BASE = "/api/v1alpha1"
SERVINGS = f"{BASE}/namespaces/default/servings"
WHO = {"X-Tenant": "lab", "X-User": "anna"}
ASK = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 0, 0, 0]}]}
LIVE = {"Pending", "Running"}


@pytest.fixture(scope="module")
def http(system: Any) -> Iterator[httpx.Client]:
    """A client; the registry has `default/served:v1`, `v2` and `broken`."""
    with system.http() as client:
        for version, data in (
            ("v1", classifier(1)),
            ("v2", classifier(2)),
            ("broken", classifier(0, broken=True)),
        ):
            zipped = io.BytesIO()
            with zipfile.ZipFile(zipped, "w") as archive:
                archive.writestr("served/model.onnx", data)
            path = f"{BASE}/projects/default/models/served/versions/{version}/upload"
            model = '{"format": "ONNX", "inputs": [{"name": "x", "dType": "float32", "size": [-1, 4]}], '
            model += '"outputs": [{"name": "y", "dType": "float32", "size": [-1, 3]}]}'
            files = {"file": ("served.zip", zipped.getvalue()), "model": (None, model)}
            answer = client.post(path, files=files, headers=WHO)
            assert answer.status_code == 201, answer.text
        yield client


def serve(http: httpx.Client, name: str, version: str, **canary: Any) -> None:
    """Create the serving, or change it."""
    body = {
        "name": name,
        "model": f"default/served:{version}",
        "canary": {"step_s": 1, "probes": 4, **canary},
    }
    there = http.get(f"{SERVINGS}/{name}").status_code == 200
    answer = http.put(f"{SERVINGS}/{name}", json=body) if there else http.post(SERVINGS, json=body)
    assert answer.status_code in (200, 201), answer.text


def status(http: httpx.Client, name: str) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"{SERVINGS}/{name}").json()["status"]
    return found


def until(http: httpx.Client, name: str, phase: str, *before: str) -> dict[str, Any]:
    """The status once the newest rollout is in this phase, after those that it may be in before."""

    def there() -> dict[str, Any] | None:
        now = status(http, name)
        assert now["rollout"]["phase"] in (phase, *LIVE, *before), now["rollout"]
        return now if now["rollout"]["phase"] == phase else None

    wait_until(there, timeout_s=90, what=f"rollout of {name} to be {phase}")
    return status(http, name)


def infer(http: httpx.Client, name: str) -> httpx.Response:
    return http.post(f"/seldon/default/{name}/v2/models/{name}/infer", json=ASK)


@contextmanager
def traffic(system: Any, name: str) -> Iterator[list[int]]:
    """Four connections that ask as fast as they can; the status codes of the answers."""
    over, codes = threading.Event(), []

    def ask() -> None:
        with system.http() as mine:
            while not over.is_set():
                codes.append(infer(mine, name).status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield codes
    finally:
        over.set()
        for thread in threads:
            thread.join(30)


def test_a_rollout_under_traffic_loses_no_request_though_its_flow_is_killed(
    system: Any, http: httpx.Client
) -> None:
    serve(http, "busy", "v1")
    until(http, "busy", "Promoted")
    first = infer(http, "busy").json()["outputs"][0]["data"]
    system.fault_folder.joinpath("after_shift").touch()
    with traffic(system, "busy") as codes:
        serve(http, "busy", "v2", steps=[20, 60], max_disagreement=1)
        now = until(http, "busy", "Promoted")
    assert not system.fault_folder.joinpath("after_shift").exists(), "the flow was killed"
    assert set(codes) == {200}, f"{len(codes)} requests"
    assert now["rollout"]["steps"]["shift-60"]["requests"]["new"] > 0
    assert infer(http, "busy").json()["outputs"][0]["data"] != first
    events = http.get(f"{SERVINGS}/busy/events").json()["items"]
    assert "Lost" in [event["reason"] for event in events]


def test_versions_that_disagree_go_back_by_themselves(system: Any, http: httpx.Client) -> None:
    serve(http, "differs", "v1")
    until(http, "differs", "Promoted")
    with traffic(system, "differs"):
        serve(http, "differs", "v2", steps=[50], max_disagreement=0.0, step_s=60)
        now = until(http, "differs", "RolledBack")
    assert "mirrored requests otherwise" in now["rollout"]["message"]
    assert (now["state"], now["traffic"]) == ("Available", {"differs-default-r1": 100})
    assert infer(http, "differs").status_code == 200


def test_a_rollout_that_is_cancelled_in_prefect_goes_back(system: Any, http: httpx.Client) -> None:
    serve(http, "cancelled", "v1")
    until(http, "cancelled", "Promoted")
    serve(http, "cancelled", "v2", steps=[50], step_s=60)
    wait_until(lambda: len(status(http, "cancelled")["traffic"]) == 2, timeout_s=60, what="the first step")
    run = status(http, "cancelled")["rollout"]["flowRunID"]
    state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    httpx.post(f"{system.prefect_url}/api/flow_runs/{run}/set_state", json=state).raise_for_status()
    now = until(http, "cancelled", "RolledBack")
    assert now["traffic"] == {"cancelled-default-r1": 100}


def test_a_suspended_rollout_is_approved_by_resuming_it_in_prefect(system: Any, http: httpx.Client) -> None:
    serve(http, "asked", "v1")
    until(http, "asked", "Promoted")
    serve(http, "asked", "v2", steps=[50], approval=True)
    now = until(http, "asked", "AwaitingApproval")
    run = f"{system.prefect_url}/api/flow_runs/{now['rollout']['flowRunID']}"
    suspended = lambda: httpx.get(run).json()["state"]["type"] == "PAUSED"  # noqa: E731
    wait_until(suspended, timeout_s=20, what="the run to be suspended")
    httpx.post(f"{run}/resume", json={}).raise_for_status()
    now = until(http, "asked", "Promoted", "AwaitingApproval")
    assert now["rollout"]["approvedBy"] == "Prefect"


def test_a_version_that_does_not_load_fails_with_its_reason_in_prefect_too(
    system: Any, http: httpx.Client
) -> None:
    serve(http, "hopeless", "broken")
    now = until(http, "hopeless", "Failed")
    assert "cannot run" in now["description"]
    run = f"{system.prefect_url}/api/flow_runs/{now['rollout']['flowRunID']}"
    failed = lambda: httpx.get(run).json()["state"]["type"] == "FAILED"  # noqa: E731
    wait_until(failed, timeout_s=20, what="the run to be failed")
    wanted = {"artifacts": {"key": {"any_": ["serving-default-hopeless"]}}}
    (page,) = httpx.post(f"{system.prefect_url}/api/artifacts/filter", json=wanted).json()
    assert page["data"].startswith("# default/hopeless, rollout 1: Failed")
    assert "| new | default | default/served:broken | `sha256:" in page["data"]
    assert http.delete(f"{SERVINGS}/hopeless").status_code == 204
    gone = lambda: http.get(f"{SERVINGS}/hopeless").status_code == 404  # noqa: E731
    wait_until(gone, timeout_s=30, what="the serving to be gone")
