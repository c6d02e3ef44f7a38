"""A ModelJob's execution as the original's clients see it: a pod, and its log in the dashboard's shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Row, select

from catchment.errors import InvalidField, NotFound
from catchment.jobs.times import rfc3339
from catchment.model_jobs import rows
from catchment.model_jobs.states import Phase
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_job_lines, model_jobs

CONTAINER = "executor"
JOB_LABEL = "job-name"
BYTES_FROM_BEGINNING = 500_000
LINES_FROM_END = 5_000
_POD_PHASES = {
    Phase.PENDING: "Pending",
    Phase.RUNNING: "Running",
    Phase.SUCCEEDED: "Succeeded",
    Phase.FAILED: "Failed",
    Phase.DELETING: "Running",
}


@dataclass(frozen=True)
class Selection:
    """Which lines of a log are wanted, in the words of the Kubernetes dashboard.

    Attributes:
        timestamp: of the reference line; "newest" or "oldest" for the ends.
        line_num: which one among the lines of that time; negative counts from the last.
        offset_from, offset_to: lines before and after the reference.
        position: the end of the log that is read when it is long.
    """

    timestamp: str = "newest"
    line_num: int = 0
    offset_from: int = -99
    offset_to: int = 1
    position: Literal["beginning", "end"] = "end"


def list_pods(store: Store, namespace: str, filter_by: str) -> dict[str, Any]:
    """The executions of a namespace's ModelJobs as a Kubernetes PodList.

    `filter_by` is a label selector, `:` read as `=`, such as `job-name=x`; of several pairs all must hold.

    Raises:
        InvalidField: it is none.
    """
    wanted = dict(_pair(each) for each in filter_by.split(",") if each.strip())
    mine = select(model_jobs).where(model_jobs.c.namespace == namespace).order_by(model_jobs.c.name)
    pods = [_pod(row) for row in store.db.read(lambda tx: tx.execute(mine).all())]
    items = [pod for pod in pods if wanted.items() <= pod["metadata"]["labels"].items()]
    return {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.replace(":", "=", 1).strip().partition("=")
    if not (name and equals):
        raise InvalidField("filterBy", f"{text[:80]!r} must be label=value")
    return name, value.lstrip("=")


def _pod(row: Row[Any]) -> dict[str, Any]:
    state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
    if row.phase == Phase.RUNNING:
        state = {"running": {"startedAt": rfc3339(row.started_at or row.created_at)}}
    elif row.finished_at is not None:
        ended = {
            "exitCode": 0 if row.phase == Phase.SUCCEEDED else 1,
            "reason": row.phase,
            "message": row.message,
        }
        state = {"terminated": {**ended, "finishedAt": rfc3339(row.finished_at)}}
    return {
        "metadata": {
            "name": row.name,
            "namespace": row.namespace,
            "uid": row.uid,
            "creationTimestamp": rfc3339(row.created_at),
            "labels": {**row.labels, JOB_LABEL: row.name},
        },
        "spec": {"containers": [{"name": CONTAINER}]},
        "status": {
            "phase": _POD_PHASES[Phase(row.phase)],
            "message": row.message,
            "containerStatuses": [{"name": CONTAINER, "ready": row.phase == Phase.RUNNING, "state": state}],
        },
    }


def log_details(
    store: Store, namespace: str, pod: str, container: str | None, wanted: Selection
) -> dict[str, Any]:
    """The lines that are wanted of a pod's log, with the selection that gives them.

    Raises:
        NotFound: no such pod, or no such container in it.
    """
    if container not in (None, "", CONTAINER):
        raise NotFound(f"pod {pod!r} has no container {container!r}, only {CONTAINER!r}")

    def step(tx: Transaction) -> tuple[Row[Any], list[Row[Any]], bool]:
        job = rows.find(tx, namespace, pod)
        if job is None:
            raise NotFound(f"pod {pod!r} does not exist in namespace {namespace!r}")
        return job, *_read(tx, job.uid, wanted.position)

    job, found, truncated = store.db.read(step)
    lines = [{"timestamp": rfc3339(row.at), "content": row.text} for row in found]
    chosen, selection = _chosen(lines, wanted)
    return {
        "info": {
            "podName": job.name,
            "containerName": CONTAINER,
            "initContainerName": "",
            "fromDate": chosen[0]["timestamp"] if chosen else "",
            "toDate": chosen[-1]["timestamp"] if chosen else "",
            "truncated": truncated and bool(chosen),
        },
        "selection": selection,
        "logs": chosen,
    }


def _read(tx: Transaction, uid: str, position: str) -> tuple[list[Row[Any]], bool]:
    """The lines from one end, as many as the dashboard takes, and whether there are more."""
    mine = select(model_job_lines).where(model_job_lines.c.job_uid == uid)
    if position == "end":
        newest = mine.order_by(model_job_lines.c.number.desc()).limit(LINES_FROM_END + 1)
        found = list(tx.execute(newest).all())
        return found[:LINES_FROM_END][::-1], len(found) > LINES_FROM_END
    taken: list[Row[Any]] = []
    size = 0
    for row in tx.execute(mine.order_by(model_job_lines.c.number)):
        size += len(row.text.encode()) + 1
        if size > BYTES_FROM_BEGINNING:
            return taken, True
        taken.append(row)
    return taken, False


_NOTHING = {
    "referencePoint": {"timestamp": "", "lineNum": 0},
    "offsetFrom": 0,
    "offsetTo": 0,
    "logFilePosition": "",
}


def _chosen(lines: list[dict[str, str]], wanted: Selection) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The lines around the reference, and a selection around their middle that gives the same ones."""
    reference = _reference(lines, wanted)
    if reference is None:
        return [], _NOTHING
    start = max(0, reference + wanted.offset_from)
    stop = min(len(lines), reference + wanted.offset_to)
    if wanted.timestamp == "newest" and wanted.offset_from < 0 and stop == len(lines):
        start = max(0, stop - (wanted.offset_to - wanted.offset_from))
    chosen = lines[start:stop]
    if not chosen:
        return [], _NOTHING
    middle = start + len(chosen) // 2
    at = lines[middle]["timestamp"]
    first = next(index for index, line in enumerate(lines) if line["timestamp"] == at)
    point = {"timestamp": at, "lineNum": middle - first + 1}
    return chosen, {
        "referencePoint": point,
        "offsetFrom": start - middle,
        "offsetTo": stop - middle,
        "logFilePosition": wanted.position,
    }


def _reference(lines: list[dict[str, str]], wanted: Selection) -> int | None:
    if not lines:
        return None
    if wanted.timestamp == "newest":
        return len(lines) - 1
    if wanted.timestamp == "oldest":
        return 0
    equal = [index for index, line in enumerate(lines) if line["timestamp"] == wanted.timestamp]
    if not equal:
        return None
    number = wanted.line_num - 1 if wanted.line_num > 0 else wanted.line_num
    return equal[number] if -len(equal) <= number < len(equal) else None
