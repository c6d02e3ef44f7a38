"""How a pod is, in one place: why it does not run, why it ended, and whether waiting can help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

ProblemKind = Literal[
    "creating",
    "unschedulable",
    "image",
    "invalid image",
    "config",
    "out of memory",
    "evicted",
    "crash loop",
    "exit",
]
Object = Mapping[str, Any]

EXECUTOR = "executor"
EXIT_CODES = {
    16: "failed to login model registry",
    17: "failed to pull model",
    18: "failed to export model to local",
    19: "failed to run extract/convert task",
    20: "failed to save model to localhost",
    21: "failed to push model to model registry",
}
"""What the codes of a ModelJob's containers mean. The original meant 10000 to 10005; an exit status has eight
bits, so that a shell makes 16 to 21 of them."""
EXIT_CODES |= {10000 + number: words for number, words in enumerate(list(EXIT_CODES.values()))}

_WAITING: Mapping[str, tuple[ProblemKind, str]] = {
    "ErrImagePull": ("image", "failed to pull image"),
    "ImagePullBackOff": ("image", "failed to pull image"),
    "RegistryUnavailable": ("image", "failed to pull image"),
    "ErrImageNeverPull": ("image", "failed to pull image"),
    "InvalidImageName": ("invalid image", "container image invalid"),
    "ImageInspectError": ("invalid image", "container image invalid"),
    "ContainerCreating": ("creating", "container is creating"),
    "PodInitializing": ("creating", "container is creating"),
    "CreateContainerConfigError": ("config", "container cannot be configured"),
    "CreateContainerError": ("config", "container cannot be created"),
    "RunContainerError": ("config", "container cannot be started"),
    "OOMKilled": ("out of memory", "container out of memory"),
    "CrashLoopBackOff": ("crash loop", "container crashed"),
}
_GONE = (
    "Evicted",
    "Preempting",
    "NodeLost",
    "NodeShutdown",
    "Shutdown",
    "Terminated",
    "UnexpectedAdmissionError",
)


@dataclass(frozen=True)
class PodProblem:
    """Why a pod does not do its work.

    Attributes:
        kind: for programs.
        message: for people; begins with the original's words where it had some.
        waits: the pod may yet come to run; otherwise it will not.
        container: that it is about; empty for the whole pod.
        code: exit code of "exit".
    """

    kind: ProblemKind
    message: str
    waits: bool = False
    container: str = ""
    code: int = 0


CREATING = PodProblem("creating", "container is creating", waits=True)


def pod_problem(pod: Object | None) -> PodProblem | None:
    """What keeps a pod from its work; None while it works, or when it has ended well.

    Args:
        pod: as the API gives it; None: there is none yet.
    """
    if pod is None:
        return CREATING
    status = pod.get("status") or {}
    if status.get("reason") in _GONE and status.get("phase") == "Failed":
        told = str(status.get("message") or "").strip()
        return PodProblem("evicted", f"pod was evicted ({status['reason']}){f': {told}' if told else ''}")
    if (unscheduled := _unscheduled(status)) is not None:
        return unscheduled
    for init, container in _containers(status):
        if (problem := _of_container(container, init)) is not None:
            return problem
    if status.get("phase") == "Failed":
        return PodProblem("exit", str(status.get("message") or "the pod failed"))
    started = status.get("containerStatuses") or status.get("phase") in ("Running", "Succeeded")
    return None if started else CREATING


def _unscheduled(status: Object) -> PodProblem | None:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            reason = condition.get("reason", "")
            words = str(condition.get("message") or reason or "the pod finds no node")
            return PodProblem("unschedulable", words, waits=True)
    return None


def _containers(status: Object) -> Iterator[tuple[bool, Object]]:
    """Statuses, and whether of init containers; what waits for an init container says nothing yet."""
    inits = status.get("initContainerStatuses") or []
    yield from ((True, each) for each in inits)
    if all((each.get("state") or {}).get("terminated", {}).get("exitCode") == 0 for each in inits):
        yield from ((False, each) for each in status.get("containerStatuses") or [])


def _of_container(container: Object, init: bool) -> PodProblem | None:
    name, state = str(container.get("name", "")), container.get("state") or {}
    if ended := state.get("terminated"):
        return _ended(name, ended, init)
    waiting = state.get("waiting")
    if waiting is None:
        return None
    reason, told = str(waiting.get("reason", "")), str(waiting.get("message") or "").strip()
    last = (container.get("lastState") or {}).get("terminated")
    kind, words = _WAITING.get(reason, ("creating", f"container is waiting: {reason or 'no reason given'}"))
    if kind == "crash loop" and last:
        cause = _ended(name, last, init)
        if cause is not None and cause.kind == "out of memory":
            return PodProblem("out of memory", cause.message, waits=True, container=name)
        told = cause.message if cause is not None else "it ended with exit code 0"
    message = words if not told or kind == "creating" else f"{words}: {told}"
    # An image can appear in its registry, a secret be made, a container come up at the fourth try.
    return PodProblem(kind, message, waits=kind != "invalid image", container=name)


def _ended(name: str, ended: Object, init: bool) -> PodProblem | None:
    code, reason = int(ended.get("exitCode", 0)), ended.get("reason", "")
    if reason == "OOMKilled":
        return PodProblem("out of memory", f"container out of memory: {name}", container=name, code=code)
    if code == 0:
        return None
    words = EXIT_CODES.get(code)
    if words is None:
        by = "failed to pull model: " if init and name != EXECUTOR else ""
        words = f"{by}container {name} ended with exit code {code}"
    return PodProblem("exit", words, container=name, code=code)
