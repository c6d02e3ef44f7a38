"""Lists and events in the shape of Kubernetes' objects, as the registry document's clients read them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from catchment.jobs.times import micro_time, rfc3339


def envelope(total: int, items: list[dict[str, Any]]) -> dict[str, Any]:
    """A page of a list."""
    return {"metadata": {"totalItems": total}, "items": items}


def event_view(api_version: str, kind: str, reporter: str, owner: Row[Any], row: Row[Any]) -> dict[str, Any]:
    """A core/v1 Event.

    Args:
        api_version, kind: of the object that it is about.
        reporter: the component that says it.
        owner: that object's row, with its name, namespace and uid.
        row: the event's.
    """
    at = rfc3339(row.at)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{owner.name}.{row.number:x}",
            "namespace": owner.namespace,
            "uid": f"{owner.uid}-{row.number}",
            "creationTimestamp": at,
        },
        "involvedObject": {
            "apiVersion": api_version,
            "kind": kind,
            "name": owner.name,
            "namespace": owner.namespace,
            "uid": owner.uid,
        },
        "reason": row.reason,
        "message": row.message,
        "source": {"component": reporter},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
        "type": row.type,
        "eventTime": micro_time(row.at),
        "reportingComponent": reporter,
        "reportingInstance": reporter,
    }
