"""ModelJobs and their events in the shape of Kubernetes' objects, as the document's clients read them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from catchment.jobs.times import rfc3339, rfc3339_or_none
from catchment.model_jobs.spec import API_VERSION, KIND
from catchment.runs import views

REPORTER = "modeljob-operator"
"""Who reports events, by the original's name."""


def job_view(row: Row[Any]) -> dict[str, Any]:
    """The document's ModelJob; `status` holds what Catchment knows beyond phase and message."""
    status = {
        "phase": row.phase,
        "message": row.message,
        "startTime": rfc3339_or_none(row.started_at),
        "completionTime": rfc3339_or_none(row.finished_at),
        "flowRunID": row.flow_run_id,
        "sourceModelID": row.source_id,
        "resultModelID": row.result_id,
        "steps": {name: found for name, found in row.steps.items() if not name.startswith("@")} or None,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": row.name,
            "namespace": row.namespace,
            "uid": row.uid,
            "creationTimestamp": rfc3339(row.created_at),
            "labels": row.labels,
            **({"annotations": row.annotations} if row.annotations else {}),
        },
        "spec": row.spec,
        "status": {key: value for key, value in status.items() if value is not None},
    }


def event_view(job: Row[Any], row: Row[Any]) -> dict[str, Any]:
    """A core/v1 Event."""
    return views.event_view(API_VERSION, KIND, REPORTER, job, row)
