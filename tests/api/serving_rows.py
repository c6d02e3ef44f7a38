"""Rows of servings as rollouts and hosts write them, put straight into the store."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, insert, update

from catchment.serving.figures import Figures, read
from catchment.serving.topics import ENDPOINTS, ROUTES, WORKLOADS
from catchment.store import Store
from catchment.store.schema import serving_endpoints, serving_workloads, servings


def add_serving(
    store: Store, name: str, weights: Mapping[str, int], *, namespace: str = "default", **more: Any
) -> str:
    """A serving; its uid."""
    uid = secrets.token_hex(16)
    row = {
        **{key: {} for key in ("labels", "annotations", "body", "spec", "created_by", "observed")},
        **{"uid": uid, "namespace": namespace, "name": name, "backend": "local", "state": "Available"},
        **{"created_at": 0.0, "updated_at": 0.0, "weights": dict(weights), **more},
    }

    def write(tx: Any) -> None:
        tx.execute(insert(servings).values(**row))
        tx.notify(ROUTES)

    store.db.write(write)
    return uid


def route(store: Store, uid: str, weights: Mapping[str, int], **more: Any) -> None:
    """Split its traffic."""

    def write(tx: Any) -> None:
        tx.execute(update(servings).where(servings.c.uid == uid).values(weights=dict(weights), **more))
        tx.notify(ROUTES)

    store.db.write(write)


def add_workload(store: Store, uid: str, key: str, *, revision: int = 1, graph: str = "classifier") -> None:
    """What a host is to run, as far as the gateway reads it."""
    spec = {"revision": revision, "predictor": "default", "graph": graph}

    def write(tx: Any) -> None:
        tx.execute(insert(serving_workloads).values(serving_uid=uid, key=key, spec=spec, created_at=0.0))
        tx.notify(WORKLOADS)

    store.db.write(write)


def add_endpoint(
    store: Store, uid: str, key: str, port: int, *, replica: int = 0, state: str = "ready", message: str = ""
) -> None:
    """Where one of its servers answers."""
    row = {"serving_uid": uid, "key": key, "replica": replica, "state": state, "message": message}

    def write(tx: Any) -> None:
        address = f"http://127.0.0.1:{port}"
        tx.execute(insert(serving_endpoints).values(**row, http=address, updated_at=0.0))
        tx.notify(ENDPOINTS)

    store.db.write(write)


def drop_endpoints(store: Store, uid: str, key: str) -> None:
    """A workload's servers are gone."""
    table = serving_endpoints

    def write(tx: Any) -> None:
        tx.execute(delete(table).where(table.c.serving_uid == uid, table.c.key == key))
        tx.notify(ENDPOINTS)

    store.db.write(write)


def figures(store: Store, uid: str) -> dict[str, Figures]:
    """What gateways have written."""
    return store.db.read(lambda tx: read(tx, uid))
