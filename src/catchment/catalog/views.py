"""Model versions as the document's objects."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from catchment.catalog import audit, rows
from catchment.jobs.times import rfc3339
from catchment.store.database import Transaction
from catchment.store.schema import model_versions


def detail(row: Row[Any]) -> dict[str, Any]:
    """The document's ModelDetail, and what Catchment knows beyond it."""
    path = rows.storage_path(row)
    return {
        "name": row.name,
        "runtime": row.runtime,
        "namespace": row.namespace,
        "id": row.id,
        "state": row.state,
        "progress": row.progress,
        "version_info": {
            "version": row.version,
            "time": rfc3339(row.created_at),
            "description": row.description,
        },
        "storage_info": [row.namespace, path or f"model-versions/{row.name}/{row.version}"],
        "model_path": row.model_path,
        "file_name": row.file_name,
        "error_msg": row.error or None,
        "format": row.format or None,
        "digest": row.digest,
        "size_bytes": row.size_bytes,
        "signature": (row.config or {}).get("signature"),
        "equivalence": row.lineage.get("equivalence"),
    }


def named(row: Row[Any]) -> dict[str, Any]:
    """What names a version."""
    return {"id": row.id, "namespace": row.namespace, "name": row.name, "version": row.version}


def lineage(tx: Transaction, model_id: str) -> dict[str, Any]:
    """Where a version came from, what was made from it, and who did what to it; also when it is gone.

    Raises:
        NotFound: there never was one with this id.
    """
    events = audit.entries(tx, model_id)
    row = tx.execute(select(model_versions).where(model_versions.c.id == model_id)).first()
    if row is None and not events:
        rows.by_id(tx, model_id)
    made = select(model_versions).where(model_versions.c.parent == model_id)
    children = tx.execute(made.order_by(model_versions.c.created_at, model_versions.c.id)).all()
    return {
        "model": named(row) if row is not None else {"id": model_id},
        "digest": row.digest if row is not None else None,
        "made_from": row.lineage if row is not None else None,
        "ancestors": _ancestors(tx, row),
        "descendants": [{**named(child), "made_from": child.lineage} for child in children],
        "events": events,
    }


def _ancestors(tx: Transaction, row: Row[Any] | None) -> list[dict[str, Any]]:
    """The versions that it goes back to, nearest first; one that is gone is named by its id."""
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    parent = row.parent if row is not None else None
    while parent is not None and parent not in seen:
        seen.add(parent)
        above = tx.execute(select(model_versions).where(model_versions.c.id == parent)).first()
        found.append({**named(above), "made_from": above.lineage} if above is not None else {"id": parent})
        parent = above.parent if above is not None else None
    return found
