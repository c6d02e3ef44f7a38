"""What every backend of servings does: one suite, over a harness that each backend's tests give.

A test module subclasses `BackendContract` and has a fixture `harness`. Each test makes a serving of its own,
so that one backend may serve all of them.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import replace
from typing import Literal, Protocol
from urllib.parse import urlsplit

import grpc
import pytest

from catchment.errors import NotFound
from catchment.model_server.grpc_messages import CLASSES, SERVICE
from catchment.serving.workload import Backend, Endpoint, Observed, ServedModel, ServingKey, Workload
from tests.conftest import wait_until

Kind = Literal["identity", "broken"]


class Harness(Protocol):
    """What the suite needs of a backend's surroundings.

    Attributes:
        backend: under test.
        deadline_s: a workload is ready, or gone, within this.
        real_servers: whether endpoints answer inferences; a double of a cluster runs none.
    """

    backend: Backend
    deadline_s: float
    real_servers: bool

    def serving(self) -> ServingKey:
        """A new serving, whose row is in the store."""

    def model(self, kind: Kind) -> ServedModel:
        """A ready version: `identity` gives its input `x`, FP32 [n, 2], back as `y`; `broken` does not load."""

    def crash(self, workload: Workload) -> None:
        """Have one of the workload's ready model servers die."""


class BackendContract:
    """The suite."""

    def test_what_was_never_applied_is_absent(self, harness: Harness) -> None:
        never = workload(harness)
        assert harness.backend.observe(never).state == "absent"
        assert harness.backend.endpoints(never) == []
        assert harness.backend.pods(never.serving) == []
        assert harness.backend.routed(never.serving) == {}

    def test_applied_twice_it_runs_once(self, harness: Harness) -> None:
        wanted = workload(harness, replicas=2)
        harness.backend.check(wanted)
        harness.backend.apply(wanted)
        harness.backend.apply(wanted)
        seen = ready(harness, wanted)
        assert (seen.ready, seen.replicas) == (2, 2)
        assert len(harness.backend.pods(wanted.serving)) == 2
        harness.backend.apply(wanted)
        assert harness.backend.observe(wanted).state == "ready"
        assert harness.backend.remove_all(wanted.serving) in (True, False)

    def test_its_endpoints_answer_the_protocol(self, harness: Harness) -> None:
        if not harness.real_servers:
            pytest.skip("this backend's surroundings run no model servers")
        wanted = workload(harness, replicas=2)
        harness.backend.apply(wanted)
        ready(harness, wanted)
        endpoints = harness.backend.endpoints(wanted)
        assert len({endpoint.http for endpoint in endpoints}) == len(endpoints) > 0
        for endpoint in endpoints:
            assert infer(endpoint, [1.5, -2.0]) == [1.5, -2.0]
            assert infer_grpc(endpoint, [3.0, 0.25]) == [3.0, 0.25]
        harness.backend.remove_all(wanted.serving)

    def test_it_scales_up_and_down(self, harness: Harness) -> None:
        wanted = workload(harness)
        for replicas in (1, 3, 1, 0):
            harness.backend.apply(wanted.scaled(replicas))
            wait_until(
                lambda replicas=replicas: (
                    _counts(harness, wanted) == (replicas, replicas)
                    and len(harness.backend.pods(wanted.serving)) == replicas
                ),
                timeout_s=harness.deadline_s,
                what=f"{replicas} replicas",
            )
        harness.backend.remove_all(wanted.serving)

    def test_traffic_is_split_as_it_was_routed_last(self, harness: Harness) -> None:
        stable = workload(harness)
        canary = replace(stable, revision=2)
        for each in (stable, canary):
            harness.backend.apply(each)
        for weights in ({stable.key: 100}, {stable.key: 75, canary.key: 25}, {canary.key: 100}, {}):
            for _ in range(2):
                harness.backend.route(stable.serving, weights)
                assert harness.backend.routed(stable.serving) == weights
        harness.backend.remove_all(stable.serving)

    def test_a_removed_workload_is_gone_and_the_others_stay(self, harness: Harness) -> None:
        stable = workload(harness)
        canary = replace(stable, revision=2)
        for each in (stable, canary):
            harness.backend.apply(each)
        for each in (stable, canary):
            ready(harness, each)
        for _ in range(2):
            harness.backend.remove(stable.serving, [canary.key, "never-there-r7"])
        absent(harness, canary)
        harness.backend.remove(stable.serving, [canary.key])
        assert harness.backend.endpoints(canary) == []
        assert harness.backend.observe(stable).state == "ready"
        assert [_workload_of(pod) for pod in harness.backend.pods(stable.serving)] == [stable.key]
        harness.backend.remove_all(stable.serving)

    def test_removed_and_applied_again_it_runs_again(self, harness: Harness) -> None:
        wanted = workload(harness)
        harness.backend.apply(wanted)
        ready(harness, wanted)
        harness.backend.remove(wanted.serving, [wanted.key])
        harness.backend.apply(wanted)
        ready(harness, wanted)
        harness.backend.remove_all(wanted.serving)

    def test_all_of_a_serving_is_removed(self, harness: Harness) -> None:
        stable = workload(harness)
        canary = replace(stable, revision=2)
        for each in (stable, canary):
            harness.backend.apply(each)
            ready(harness, each)
        harness.backend.route(stable.serving, {stable.key: 90, canary.key: 10})
        wait_until(
            lambda: harness.backend.remove_all(stable.serving),
            timeout_s=harness.deadline_s,
            what="the end of everything",
        )
        assert harness.backend.remove_all(stable.serving)
        assert harness.backend.routed(stable.serving) == {}
        for each in (stable, canary):
            assert harness.backend.observe(each).state == "absent"

    def test_a_model_that_cannot_be_loaded_fails_with_its_reason(self, harness: Harness) -> None:
        broken = workload(harness, kind="broken")
        harness.backend.apply(broken)
        seen = wait_until(
            lambda: (now := harness.backend.observe(broken)).state == "failed" and now,
            timeout_s=harness.deadline_s,
            what="the failure",
        )
        assert isinstance(seen, Observed)
        assert seen.message
        assert seen.ready == 0
        assert harness.backend.endpoints(broken) == []
        wait_until(
            lambda: harness.backend.remove_all(broken.serving),
            timeout_s=harness.deadline_s,
            what="the end of what has failed",
        )

    def test_a_server_that_dies_is_replaced(self, harness: Harness) -> None:
        wanted = workload(harness)
        harness.backend.apply(wanted)
        ready(harness, wanted)
        harness.crash(wanted)
        wait_until(
            lambda: _restarts(harness, wanted) > 0 and harness.backend.observe(wanted).state == "ready",
            timeout_s=harness.deadline_s,
            what="another model server",
        )
        harness.backend.remove_all(wanted.serving)

    def test_replicas_are_pods_with_logs(self, harness: Harness) -> None:
        wanted = workload(harness)
        harness.backend.apply(wanted)
        ready(harness, wanted)
        (pod,) = harness.backend.pods(wanted.serving)
        metadata, status = pod["metadata"], pod["status"]
        assert metadata["namespace"] == wanted.serving.namespace
        assert {
            "seldon-deployment-id": wanted.serving.name,
            "seldon-app": f"{wanted.serving.name}-{wanted.graph}",
            "catchment.io/serving": wanted.serving.name,
            "catchment.io/workload": wanted.key,
        }.items() <= metadata["labels"].items()
        assert metadata["labels"]["app"]
        assert status["phase"] == "Running"
        container = pod["spec"]["containers"][0]["name"]
        lines = harness.backend.log_lines(wanted.serving.namespace, metadata["name"], container, 5)
        assert 0 < len(lines) <= 5
        assert [at for at, _ in lines] == sorted(at for at, _ in lines)
        namespace = wanted.serving.namespace
        with pytest.raises(NotFound):
            harness.backend.log_lines(namespace, "no-such-pod-0", container, 5)
        with pytest.raises(NotFound):
            harness.backend.log_lines(namespace, metadata["name"], "no-such-container", 5)
        harness.backend.remove_all(wanted.serving)


def workload(harness: Harness, kind: Kind = "identity", replicas: int = 1) -> Workload:
    """The first revision of a new serving."""
    return Workload(
        harness.serving(), 1, "default", "classifier", harness.model(kind), replicas, server={"queue": 8}
    )


def ready(harness: Harness, wanted: Workload) -> Observed:
    """How the workload is once it is ready; it must be so in time, and must not fail before."""

    def look() -> Observed | None:
        seen = harness.backend.observe(wanted)
        assert seen.state != "failed", seen.message
        return seen if seen.state == "ready" else None

    seen = wait_until(look, timeout_s=harness.deadline_s, what="a ready workload")
    assert isinstance(seen, Observed)
    return seen


def absent(harness: Harness, wanted: Workload) -> None:
    """Wait until nothing of the workload is left."""
    wait_until(
        lambda: harness.backend.observe(wanted).state == "absent",
        timeout_s=harness.deadline_s,
        what="the end of a workload",
    )


def infer(endpoint: Endpoint, values: list[float], timeout_s: float = 10.0) -> list[float]:
    """`y` for an `x` of these two values, over REST."""
    parts = urlsplit(endpoint.http)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": values}
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        body = json.dumps({"inputs": [tensor]})
        connection.request("POST", f"/v2/models/{endpoint.model}/infer", body)
        answer = connection.getresponse()
        document = json.loads(answer.read())
        assert answer.status == 200, document
        return list(document["outputs"][0]["data"])
    finally:
        connection.close()


def infer_grpc(endpoint: Endpoint, values: list[float]) -> list[float]:
    """The same over gRPC."""
    request = CLASSES["ModelInferRequest"](model_name=endpoint.model)
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    tensor.contents.fp32_contents.extend(values)
    with grpc.insecure_channel(endpoint.grpc) as channel:
        method = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            CLASSES["ModelInferRequest"].SerializeToString,
            CLASSES["ModelInferResponse"].FromString,
        )
        reply = method(request, timeout=10)
    import numpy as np

    return [float(value) for value in np.frombuffer(reply.raw_output_contents[0], "<f4")]


def _counts(harness: Harness, wanted: Workload) -> tuple[int, int]:
    seen = harness.backend.observe(wanted)
    return (seen.ready, seen.replicas) if seen.state == "ready" else (-1, -1)


def _restarts(harness: Harness, wanted: Workload) -> int:
    return sum(
        status["restartCount"]
        for pod in harness.backend.pods(wanted.serving)
        for status in pod["status"].get("containerStatuses", [])
    )


def _workload_of(pod: dict[str, dict[str, dict[str, str]]]) -> str:
    return pod["metadata"]["labels"]["catchment.io/workload"]
