"""How a workload is, from what a cluster tells of it and of its pods; nothing here asks anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from catchment.kubernetes.pods import pod_problem
from catchment.serving.workload import Observed

MOST_RESTARTS = 3
"""A container that was never ready and ended so often will not come up by itself."""
HOPELESS = 3
"""Exit code of our own programs for what another try does not mend: the initializer, and the model server."""
_OURS = ("catchment.serving.initializer", "api.model_server")

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Trouble:
    """What keeps pods from being ready.

    Attributes:
        message: for people.
        hopeless: waiting is of no use.
    """

    message: str
    hopeless: bool


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready and not about to end."""
    return "deletionTimestamp" not in pod["metadata"] and condition(pod, "Ready").get("status") == "True"


def condition(found: Object, kind: str) -> Object:
    """A condition of an object's status; empty where it has none of this type."""
    for each in (found.get("status") or {}).get("conditions") or []:
        if each.get("type") == kind:
            told: Object = each
            return told
    return {}


def of_deployment(found: Object, pods: Sequence[Object]) -> Observed:
    """How a Deployment is that has been applied.

    It is ready when its controller has seen what was applied, and all pods are of it and ready.
    """
    status, replicas = found.get("status") or {}, int(found["spec"].get("replicas", 1))
    seen = int(status.get("observedGeneration", 0)) >= int(found["metadata"].get("generation", 0))
    ready = int(status.get("availableReplicas", 0)) if seen else 0
    counts = [int(status.get(key, 0)) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    if seen and counts == [replicas] * 3:
        return Observed("ready", replicas, replicas)
    progress = condition(found, "Progressing")
    late = seen and progress.get("reason") == "ProgressDeadlineExceeded"
    return _not_ready(min(ready, replicas), replicas, [*pods_trouble(pods), *_of_replicas(found)], late)


def of_custom(pods: Sequence[Object], replicas: int, *, settled: bool, failure: str, late: bool) -> Observed:
    """How a workload is whose pods an operator makes.

    Args:
        pods: of the workload.
        replicas: that it is to have.
        settled: the operator has seen what was applied, and finds it ready.
        failure: what the operator says that it failed of; empty: it does not.
        late: it has had all the time that it may have.
    """
    living = [each for each in pods if "deletionTimestamp" not in each["metadata"]]
    ready = sum(map(is_ready, living))
    if settled and ready == replicas == len(living) == len(pods):
        return Observed("ready", ready, replicas)
    told = [Trouble(failure, hopeless=True)] if failure else []
    return _not_ready(min(ready, replicas), replicas, [*told, *pods_trouble(pods)], late)


def pods_trouble(pods: Iterable[Object]) -> list[Trouble]:
    """What keeps pods from being ready, the hopeless first."""
    living = [each for each in pods if "deletionTimestamp" not in each["metadata"] and not is_ready(each)]
    found = [trouble for pod in living if (trouble := _of_pod(pod)) is not None]
    return sorted(found, key=lambda each: not each.hopeless)


def older_than(since: object, seconds: float, now: float) -> bool:
    """Whether a time of Kubernetes' (RFC 3339) is longer ago; a time that is none is not."""
    try:
        return now - datetime.fromisoformat(str(since)).timestamp() > seconds
    except ValueError:
        return False


def _not_ready(ready: int, replicas: int, troubles: Sequence[Trouble], late: bool) -> Observed:
    trouble = troubles[0] if troubles else None
    message = trouble.message if trouble else f"{ready} of {replicas} replicas are ready"
    if late:
        return Observed("failed", ready, replicas, f"not ready in time: {message}")
    # While one serves, another that does not is the cluster's matter: its node, or its image there.
    hopeless = trouble is not None and trouble.hopeless and ready == 0
    return Observed("failed" if hopeless else "starting", ready, replicas, message)


def _of_replicas(found: Object) -> list[Trouble]:
    """Pods that cannot even be made: a quota, or a rule of the cluster."""
    failure = condition(found, "ReplicaFailure")
    if failure.get("status") != "True":
        return []
    return [Trouble(f"pods cannot be created: {failure.get('message', 'no reason given')}", hopeless=False)]


def _of_pod(pod: Object) -> Trouble | None:
    problem = pod_problem(pod)
    if problem is None:
        return None
    message = f"pod {pod['metadata'].get('name', '')}: {problem.message}"
    status = _status_of(pod, problem.container)
    told = ended_saying(status)
    restarts = int(status.get("restartCount", 0))
    if problem.kind in ("crash loop", "exit", "out of memory"):
        hopeless = restarts >= MOST_RESTARTS or _told_hopeless(pod, problem.container, status)
        return Trouble(f"{message}{told}", hopeless)
    return Trouble(message, hopeless=problem.kind == "invalid image")


def ended_saying(status: Object) -> str:
    """The last line of what a container said before it ended, for a message; empty where it is not known."""
    text = str(_last_end(status).get("message") or "").strip()
    return f": {text.splitlines()[-1][:500]}" if text else ""


def _told_hopeless(pod: Object, name: str, status: Object) -> bool:
    if _last_end(status).get("exitCode") != HOPELESS:
        return False
    spec = pod.get("spec") or {}
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    ours = [each for each in containers if set(_OURS) & set(each.get("command") or [])]
    return name in {each["name"] for each in ours}


def _last_end(status: Object) -> Object:
    for state in (status.get("state") or {}, status.get("lastState") or {}):
        if ended := state.get("terminated"):
            told: Object = ended
            return told
    return {}


def _status_of(pod: Object, container: str) -> Object:
    status = pod.get("status") or {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        for each in status.get(kind) or []:
            if each.get("name") == container:
                told: Object = each
                return told
    return {}
