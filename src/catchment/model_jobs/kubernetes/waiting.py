"""How a step's Job stands: what its objects say, in one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from catchment.errors import CatchmentError, PodFailed, PodLost, TransferError
from catchment.kubernetes.pods import PodProblem, pod_problem

Object = Mapping[str, Any]
TRANSFERS = (17, 21)
"""Exit codes of containers that could not fetch or bring the files: the network may be better next time."""


@dataclass(frozen=True)
class Standing:
    """How it is.

    Attributes:
        state: "waiting": for a node, an image or the like; "done": all containers have ended well.
        message: for people; empty while it runs.
        problem: what the pod says, where it says something.
    """

    state: Literal["waiting", "running", "done", "failed", "lost"]
    message: str = ""
    problem: PodProblem | None = None

    def error(self) -> CatchmentError:
        """Why the step has failed, as an error that says whether trying again can help."""
        kind, code = (self.problem.kind, self.problem.code) if self.problem else ("exit", 0)
        if self.state == "lost":
            return PodLost(self.message)
        if code in TRANSFERS:
            return TransferError(self.message)
        return PodFailed(kind, self.message, code)


def standing(job: Object | None, pods: Sequence[Object]) -> Standing:
    """How a Job stands, by what the API says of it and its pods."""
    if job is None:
        return Standing("lost", "its Kubernetes Job was deleted from outside")
    pod = max(pods, key=lambda each: str(each["metadata"].get("creationTimestamp", "")), default=None)
    ended = _ended(job)
    if ended.get("type") == "Complete":
        return Standing("done")
    problem = pod_problem(pod)
    if problem is not None and problem.kind == "evicted":
        return Standing("lost", problem.message, problem)
    if ended:
        return _failed(ended, pod, problem)
    if problem is None:
        return Standing("running")
    return Standing("waiting" if problem.waits else "failed", problem.message, problem)


def is_over(job: Object, pods: Sequence[Object]) -> bool:
    """Whether a Job does nothing any more, or is about to go."""
    return "deletionTimestamp" in job["metadata"] or standing(job, pods).state in ("done", "lost", "failed")


def own(job: Object, pods: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A Job's own pods: that of an earlier one of its name goes after its Job, and may still be there."""
    uid = job["metadata"]["uid"]
    return [
        pod for pod in pods if uid in {each["uid"] for each in pod["metadata"].get("ownerReferences") or []}
    ]


def _ended(job: Object) -> Object:
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            return dict(condition)
    return {}


def _failed(ended: Object, pod: Object | None, problem: PodProblem | None) -> Standing:
    if ended.get("reason") == "DeadlineExceeded":
        return Standing("failed", "it took longer in its pod than a step may (CATCHMENT_MODEL_JOB_TIME_S)")
    if pod is None or (problem is None and "deletionTimestamp" in pod["metadata"]):
        return Standing("lost", "its pod was deleted from outside")
    if problem is None or problem.waits:
        return Standing("lost", f"its pod went away: {ended.get('message') or ended.get('reason')}", problem)
    return Standing("failed", problem.message, problem)
