"""Replicas of local workloads in the shape of Kubernetes' pods."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from catchment.jobs.times import rfc3339
from catchment.serving.host import rows
from catchment.serving.workload import Workload


def pod_of(wanted: rows.Wanted, number: int, row: Row[Any] | None) -> dict[str, Any]:
    """The pod that stands for a replica; `row` is what a host has written of it, if any has."""
    workload = wanted.workload
    state = "starting" if row is None else row.state
    message = "" if row is None else row.message
    name = f"{workload.key}-{number}"
    return {
        "metadata": {
            "name": name,
            "namespace": workload.serving.namespace,
            "uid": f"{workload.serving.uid}-{name}",
            "creationTimestamp": rfc3339(wanted.created_at),
            "labels": _labels(workload),
        },
        "spec": {"containers": [{"name": workload.graph, "resources": dict(workload.resources)}]},
        "status": {
            "phase": {"ready": "Running", "stopping": "Running", "failed": "Failed"}.get(state, "Pending"),
            "message": message,
            "podIP": "127.0.0.1",
            "conditions": [{"type": "Ready", "status": "True" if state == "ready" else "False"}],
            "containerStatuses": [
                {
                    "name": workload.graph,
                    "ready": state == "ready",
                    "restartCount": 0 if row is None else row.restarts,
                    "state": _container_state(
                        state, message, wanted.created_at if row is None else row.updated_at
                    ),
                }
            ],
        },
    }


def _container_state(state: str, message: str, since: float) -> dict[str, Any]:
    if state in ("ready", "stopping"):
        return {"running": {"startedAt": rfc3339(since)}}
    if state == "failed":
        return {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
    return {"waiting": {"reason": "ContainerCreating", "message": message}}


def _labels(workload: Workload) -> dict[str, str]:
    serving = workload.serving.name
    return {
        "app": workload.key,
        "seldon-deployment-id": serving,
        "seldon-app": f"{serving}-{workload.graph}",
        "catchment.io/serving": serving,
        "catchment.io/workload": workload.key,
    }
