"""Servings, rollouts and events in the shape of Kubernetes' objects, as the document's clients read them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row

from catchment.jobs.times import rfc3339, rfc3339_or_none
from catchment.runs import views
from catchment.serving.seldon import API_VERSION, KIND
from catchment.serving.workload import Workload

REPORTER = "seldon-controller-manager"
"""Who reports events, by the original's name."""


def address_path(namespace: str, name: str) -> str:
    """The path of the serving's gateway, below the API's own address."""
    return f"/seldon/{namespace}/{name}/v2/models/{name}"


def serving_view(
    row: Row[Any], stable: Iterable[Workload] = (), rollout: Row[Any] | None = None, base_url: str = ""
) -> dict[str, Any]:
    """The document's SeldonDeployment, its status as Seldon writes it and what Catchment knows beyond it.

    Args:
        row: the serving's.
        stable: the workloads that take its traffic.
        rollout: the one under way, or the newest.
        base_url: of the API, for the address; without it the address is a path.
    """
    observed = row.observed
    model = [
        {
            "predictor": each.predictor,
            "workload": each.key,
            "reference": each.model.reference,
            "modelID": each.model.model_id,
            "digest": each.model.digest,
            "format": each.model.format,
        }
        for each in stable
    ]
    deployments = {
        key: {
            "name": key,
            "replicas": seen["replicas"],
            "availableReplicas": seen["ready"],
            "status": "Available" if seen["state"] == "ready" else seen["state"].capitalize(),
            "description": seen["message"],
        }
        for key, seen in observed.items()
    }
    status: dict[str, Any] = {
        "state": row.state,
        "description": row.message,
        "replicas": sum(seen["ready"] for seen in observed.values()),
        "address": {"url": base_url + address_path(row.namespace, row.name)},
        "deploymentStatus": deployments,
        "traffic": row.weights,
        "backend": row.backend,
        "models": model,
        "stable": row.stable,
    }
    if rollout is not None:
        status["rollout"] = rollout_view(rollout)
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": row.name,
            "namespace": row.namespace,
            "uid": row.uid,
            "generation": row.generation,
            "resourceVersion": str(row.generation),
            "creationTimestamp": rfc3339(row.created_at),
            "labels": row.labels,
            "annotations": row.annotations,
        },
        "spec": row.body["spec"],
        "status": {key: value for key, value in status.items() if value is not None},
    }


def rollout_view(row: Row[Any]) -> dict[str, Any]:
    """A rollout, with what its steps have found."""
    found = {
        "number": row.number,
        "kind": row.kind,
        "to": row.target,
        "phase": row.phase,
        "message": row.message,
        "createdBy": row.created_by.get("login"),
        "creationTime": rfc3339(row.created_at),
        "startTime": rfc3339_or_none(row.started_at),
        "completionTime": rfc3339_or_none(row.finished_at),
        "flowRunID": row.flow_run_id,
        "approval": row.approval or None,
        "approvedBy": row.approved_by or None,
        "models": [
            {
                "predictor": each["predictor"],
                "reference": each["model"]["reference"],
                "digest": each["model"]["digest"],
            }
            for each in row.workloads
        ]
        or None,
        "steps": row.steps or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def event_view(serving: Row[Any], row: Row[Any]) -> dict[str, Any]:
    """A core/v1 Event."""
    return views.event_view(API_VERSION, KIND, REPORTER, serving, row)
