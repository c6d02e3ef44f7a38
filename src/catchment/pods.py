"""Everything that runs for a namespace as Kubernetes' pods, with their logs: ModelJobs and servings."""

from __future__ import annotations

from typing import Any

from catchment.errors import InvalidField, NotFound
from catchment.model_jobs import pods as model_jobs
from catchment.runs.logs import Selection
from catchment.serving import pods as servings
from catchment.store import Store


def list_pods(store: Store, namespace: str, filter_by: str) -> dict[str, Any]:
    """A namespace's pods as a Kubernetes PodList.

    `filter_by` is a label selector, `:` read as `=`, such as `job-name=x`; of several pairs all must hold.

    Raises:
        InvalidField: it is none.
        Unreachable: a cluster that runs some of them does not answer.
    """
    wanted = dict(_pair(each) for each in filter_by.split(",") if each.strip())
    pods = [*model_jobs.pods_of(store, namespace), *servings.pods_of(store, namespace)]
    items = [pod for pod in pods if wanted.items() <= pod["metadata"]["labels"].items()]
    return {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.replace(":", "=", 1).strip().partition("=")
    if not (name and equals):
        raise InvalidField("filterBy", f"{text[:80]!r} must be label=value")
    return name, value.lstrip("=")


def log_details(
    store: Store, namespace: str, pod: str, container: str | None, wanted: Selection
) -> dict[str, Any]:
    """The lines that are wanted of a pod's log, with the selection that gives them.

    Raises:
        NotFound: no such pod, or no such container in it.
        Unreachable: the cluster that runs it does not answer.
    """
    for part in (model_jobs, servings):
        found: dict[str, Any] | None = part.log_details(store, namespace, pod, container, wanted)
        if found is not None:
            return found
    raise NotFound(f"pod {pod!r} does not exist in namespace {namespace!r}")
