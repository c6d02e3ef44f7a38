"""Why a pod does not do its work: every state that a kubelet tells, in one sentence each."""

from __future__ import annotations

from typing import Any

import pytest

from catchment.kubernetes.client import Cluster
from catchment.kubernetes.kinds import POD
from catchment.kubernetes.pods import EXIT_CODES, pod_problem
from tests.kubernetes_double import outcomes
from tests.kubernetes_double.double import KubernetesDouble


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason}}


def a_pod(main: Any = None, init: Any = None, **status: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"status": status}
    if main is not None:
        made["status"]["containerStatuses"] = [{"name": "main", "state": main}]
    if init is not None:
        made["status"]["initContainerStatuses"] = [{"name": "model-initializer", "state": init}]
    return made


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


@pytest.mark.parametrize(
    ("pod", "kind", "message", "waits"),
    [
        (None, "creating", "container is creating", True),
        (a_pod(phase="Pending"), "creating", "container is creating", True),
        (a_pod(waiting("ContainerCreating")), "creating", "container is creating", True),
        (a_pod(waiting("ErrImagePull", "no such host")), "image", "failed to pull image: no such host", True),
        (a_pod(waiting("ImagePullBackOff")), "image", "failed to pull image", True),
        (a_pod(waiting("InvalidImageName")), "invalid image", "container image invalid", False),
        (
            a_pod(waiting("CreateContainerConfigError", 'secret "x" not found')),
            "config",
            'container cannot be configured: secret "x" not found',
            True,
        ),
        (a_pod(waiting("Whatever")), "creating", "container is waiting: Whatever", True),
        (a_pod(ended(137, "OOMKilled")), "out of memory", "container out of memory: main", False),
        (a_pod(ended(3)), "exit", "container main ended with exit code 3", False),
        (
            a_pod(waiting("PodInitializing"), ended(2)),
            "exit",
            "failed to pull model: container model-initializer ended with exit code 2",
            False,
        ),
        (a_pod(waiting("PodInitializing"), {"running": {}}), None, "", False),
        (
            a_pod(phase="Failed", reason="Evicted", message="no disk"),
            "evicted",
            "pod was evicted (Evicted): no disk",
            False,
        ),
        (
            a_pod(
                conditions=[
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}
                ]
            ),
            "unschedulable",
            "0/3",
            True,
        ),
        (a_pod({"running": {}}, phase="Running"), None, "", False),
        (a_pod(ended(0, "Completed"), ended(0), phase="Succeeded"), None, "", False),
    ],
)
def test_each_state_has_its_kind_and_words(pod: Any, kind: str | None, message: str, waits: bool) -> None:
    problem = pod_problem(pod)
    if kind is None:
        assert problem is None
    else:
        assert problem is not None
        assert (problem.kind, problem.message, problem.waits) == (kind, message, waits)


@pytest.mark.parametrize("code", sorted(EXIT_CODES))
def test_the_originals_exit_codes_have_its_words(code: int) -> None:
    problem = pod_problem(a_pod(ended(code)))
    assert problem is not None
    assert (problem.message, problem.code) == (EXIT_CODES[code], code)
    assert EXIT_CODES[16 + code % 10000 if code >= 10000 else code] == EXIT_CODES[code]


def test_a_crash_loop_says_what_the_container_ended_of() -> None:
    pod = a_pod(waiting("CrashLoopBackOff", "back-off 40s"))
    pod["status"]["containerStatuses"][0]["lastState"] = ended(3)
    problem = pod_problem(pod)
    assert problem is not None
    assert problem.message == "container crashed: container main ended with exit code 3"
    pod["status"]["containerStatuses"][0]["lastState"] = ended(137, "OOMKilled")
    problem = pod_problem(pod)
    assert problem is not None
    assert problem.kind == "out of memory"


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (outcomes.image_pull_back_off(), "image"),
        (outcomes.invalid_image(), "invalid image"),
        (outcomes.unschedulable(), "unschedulable"),
        (outcomes.out_of_memory(), "out of memory"),
        (outcomes.evicted(), "evicted"),
        (outcomes.fails(19), "exit"),
    ],
)
def test_what_a_cluster_tells_of_a_pod_is_understood(
    api: KubernetesDouble, cluster: Cluster, outcome: outcomes.Outcome, kind: str
) -> None:
    api.script(outcome)
    spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "x"}]}
    api.create("pods", {"metadata": {"name": "one"}, "spec": spec})

    def told(pods: list[dict[str, Any]]) -> bool:
        problem = pod_problem(pods[0])
        return problem is not None and problem.kind == kind

    api.wait_for("pods", told)
    problem = pod_problem(cluster.get(POD, "default", "one"))
    assert problem is not None
    assert problem.kind == kind
