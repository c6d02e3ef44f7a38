"""A ModelJob's execution as the original's clients see it: a pod, and its log."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from catchment.errors import NotFound
from catchment.jobs.times import rfc3339
from catchment.model_jobs import rows
from catchment.model_jobs.states import Phase
from catchment.runs import logs
from catchment.runs.logs import BYTES_FROM_BEGINNING, LINES_FROM_END, Selection
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_job_lines, model_jobs

CONTAINER = "executor"
JOB_LABEL = "job-name"
_POD_PHASES = {
    Phase.PENDING: "Pending",
    Phase.RUNNING: "Running",
    Phase.SUCCEEDED: "Succeeded",
    Phase.FAILED: "Failed",
    Phase.DELETING: "Running",
}


def pods_of(store: Store, namespace: str) -> list[dict[str, Any]]:
    """The executions of a namespace's ModelJobs as Kubernetes' pods, by name."""
    mine = select(model_jobs).where(model_jobs.c.namespace == namespace).order_by(model_jobs.c.name)
    return [_pod(row) for row in store.db.read(lambda tx: tx.execute(mine).all())]


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
) -> dict[str, Any] | None:
    """The lines that are wanted of a ModelJob's log; None where there is no ModelJob of this name.

    Raises:
        NotFound: it has no such container.
    """

    def step(tx: Transaction) -> tuple[list[Row[Any]], bool] | None:
        job = rows.find(tx, namespace, pod)
        return None if job is None else _read(tx, job.uid, wanted.position)

    read = store.db.read(step)
    if read is None:
        return None
    if container not in (None, "", CONTAINER):
        raise NotFound(f"pod {pod!r} has no container {container!r}, only {CONTAINER!r}")
    found, truncated = read
    lines = [{"timestamp": rfc3339(row.at), "content": row.text} for row in found]
    return logs.details(pod, CONTAINER, lines, wanted, truncated=truncated)


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
