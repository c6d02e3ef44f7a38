"""What users do to model versions: create, look at, update, delete."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from catchment.catalog import audit, removal, rows, using, views
from catchment.catalog.audit import Actor
from catchment.catalog.spec import Change, NewModel, check_version, parse_change, parse_new
from catchment.catalog.states import ModelState
from catchment.errors import AlreadyExists, InvalidField, NotFound, WrongState
from catchment.jobs import namespaces
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_versions

REPORTED = {"success": "ready", "failed": "error", "uploading": "unready"}
"""What the original program's uploaders report, in the document's words."""


def create(store: Store, namespace: str, body: object, actor: Actor) -> dict[str, Any]:
    """A new version, unready until its bytes are there; its ModelDetail.

    With `model_path` the bytes are copied in the background, with `file_name` they are waited for.

    Raises:
        InvalidField: a field is wrong.
        NotFound: no such namespace.
        AlreadyExists: the model has that version.
    """
    new = parse_new(body, namespace)

    def step(tx: Transaction) -> dict[str, Any]:
        return views.detail(insert_new(tx, namespace, new, actor))

    try:
        return store.db.write(step)
    except IntegrityError as error:
        raise AlreadyExists(
            f"model {new.name!r} has a version {new.version!r} in namespace {namespace!r} already"
        ) from error


def insert_new(tx: Transaction, namespace: str, new: NewModel, actor: Actor, **values: Any) -> Row[Any]:
    """The row of a new version, unready; `values` are further columns."""
    namespaces.require(tx, namespace, for_update=True)
    version = new.version or _next_version(tx, namespace, new.name)
    if rows.find(tx, namespace, new.name, version) is not None:
        raise AlreadyExists(
            f"model {new.name!r} has a version {version!r} in namespace {namespace!r} already"
        )
    made: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "namespace": namespace,
        "name": new.name,
        "version": version,
        "runtime": new.canonical_runtime,
        "description": new.description,
        "state": ModelState.UNREADY,
        "model_path": new.model_path,
        "file_name": new.model_path.rpartition("/")[2] if new.model_path else new.file_name,
        "lineage": {"kind": "copy", "model_path": new.model_path} if new.model_path else {"kind": "upload"},
        "created_at": tx.now,
        "updated_at": tx.now,
        "touched_at": tx.now,
    }
    tx.execute(insert(model_versions).values(**made | values))
    row = rows.by_id(tx, made["id"])
    audit.write(tx, row, "create", actor, **row.lineage)
    tx.notify(rows.TOPIC)
    return row


def _next_version(tx: Transaction, namespace: str, name: str) -> str:
    """The first of V0, V1, ... that is free, as the original program counts."""
    mine = (model_versions.c.namespace == namespace) & (model_versions.c.name == name)
    taken = set(tx.execute(select(model_versions.c.version).where(mine)).scalars())
    return next(f"V{number}" for number in range(len(taken) + 1) if f"V{number}" not in taken)


def get_by_id(store: Store, model_id: str) -> dict[str, Any]:
    """A version's ModelDetail. Raises NotFound."""
    return store.db.read(lambda tx: views.detail(rows.by_id(tx, model_id)))


def get_versions(store: Store, namespace: str, name: str, version: str | None) -> list[dict[str, Any]]:
    """A model's versions, oldest first, or one of them.

    Raises:
        NotFound: no such namespace, model or version.
    """

    def step(tx: Transaction) -> list[dict[str, Any]]:
        namespaces.require(tx, namespace)
        return [views.detail(row) for row in _meant(tx, namespace, name, version)]

    return store.db.read(step)


def list_models(
    store: Store, namespace: str, *, offset: int = 0, limit: int | None = None
) -> list[dict[str, Any]]:
    """All versions of a namespace, by the model's name, then oldest first. Raises NotFound."""
    table = model_versions.c

    def step(tx: Transaction) -> list[dict[str, Any]]:
        namespaces.require(tx, namespace)
        mine = select(model_versions).where(table.namespace == namespace)
        page = mine.order_by(table.name, table.created_at, table.id).offset(offset).limit(limit)
        return [views.detail(row) for row in tx.execute(page)]

    return store.db.read(step)


def lineage(store: Store, model_id: str) -> dict[str, Any]:
    """Where a version came from and what became of it. Raises NotFound."""
    return store.db.read(lambda tx: views.lineage(tx, model_id))


def update_version(
    store: Store, namespace: str, name: str, version: str | None, body: object, actor: Actor
) -> dict[str, Any]:
    """Change a version of a model; its ModelDetail.

    Raises:
        NotFound: no such version.
        InvalidField: no version is given, or a field is wrong.
        WrongState: the version's state does not allow it.
    """
    if version is None:
        raise InvalidField("version", "is required: an update is of one version")
    change = parse_change(body)

    def step(tx: Transaction) -> dict[str, Any]:
        return _changed(tx, rows.require(tx, namespace, name, version, lock=True), change, actor)

    return store.db.write(step)


def update_by_id(store: Store, model_id: str, body: object, actor: Actor) -> dict[str, Any]:
    """As `update_version`, by id."""
    change = parse_change(body)
    return store.db.write(lambda tx: _changed(tx, rows.by_id(tx, model_id, lock=True), change, actor))


def _changed(tx: Transaction, row: Row[Any], change: Change, actor: Actor) -> dict[str, Any]:
    """Apply a change that is legal in the version's state."""
    if row.state == ModelState.DELETING:
        raise WrongState(f"version {row.version!r} of model {row.name!r} is being deleted")
    values: dict[str, Any] = {}
    if change.description is not None:
        values["description"] = change.description
    state = REPORTED.get(change.state or "", change.state)
    progress = 100 if state == "ready" else change.progress
    if state == "error":
        values |= _reported_failure(row, change)
    elif state is not None or progress is not None:
        values |= _reported_progress(tx, row, progress)
    if values:
        rows.change(tx, row.id, **values)
        audit.write(tx, row, "update", actor, **change.model_dump(exclude_unset=True))
        tx.notify(rows.TOPIC)
    return views.detail(rows.by_id(tx, row.id))


def _reported_failure(row: Row[Any], change: Change) -> dict[str, Any]:
    if row.state == ModelState.READY:
        raise WrongState(f"version {row.version!r} of model {row.name!r} is ready and stays so")
    words = change.error_msg or "whoever uploads it reported a failure"
    return {"state": ModelState.ERROR, "error": words, "reported": False}


def _reported_progress(tx: Transaction, row: Row[Any], progress: int | None) -> dict[str, Any]:
    """What a report about an upload past Catchment changes; the bytes are looked at before it is ready."""
    if row.state == ModelState.READY:
        if progress in (None, 100):
            return {}
        raise WrongState(f"version {row.version!r} of model {row.name!r} is ready; its progress stays 100")
    if row.model_path is not None:
        raise WrongState("the version's bytes are copied from model_path; nobody has to report about them")
    if row.file_name is None:
        raise WrongState("the version has no file_name, so no place for its file; upload it instead")
    values: dict[str, Any] = {"state": ModelState.UNREADY, "error": "", "touched_at": tx.now}
    if progress is not None:
        values |= {"progress": min(progress, 99), "reported": progress == 100}
    return values


def delete(store: Store, namespace: str, name: str, version: str | None, actor: Actor) -> None:
    """Delete a version of a model, or all of them; all or nothing.

    Raises:
        NotFound: no such model or version.
        WrongState: one of them is in use.
    """
    _delete(store, lambda tx: _meant(tx, namespace, name, version, lock=True), actor)


def delete_by_id(store: Store, model_id: str, actor: Actor) -> None:
    """Delete one version. Raises NotFound, WrongState."""
    _delete(store, lambda tx: [rows.by_id(tx, model_id, lock=True)], actor)


def _delete(store: Store, meant: Any, actor: Actor) -> None:
    def step(tx: Transaction) -> list[str]:
        found: list[Row[Any]] = meant(tx)
        using.refuse_used(tx, found)
        for row in found:
            if row.state != ModelState.DELETING:
                rows.change(tx, row.id, state=ModelState.DELETING, lease_owner=None, lease_until=0.0)
                audit.write(tx, row, "delete", actor, digest=row.digest)
        return [row.id for row in found]

    for model_id in store.db.write(step):
        removal.remove(store, model_id)


def _meant(
    tx: Transaction, namespace: str, name: str, version: str | None, *, lock: bool = False
) -> list[Row[Any]]:
    if version is not None:
        return [rows.require(tx, namespace, name, check_version(version), lock=lock)]
    table = model_versions.c
    mine = select(model_versions).where(table.namespace == namespace, table.name == name)
    ordered = mine.order_by(table.created_at, table.id)
    found = list(tx.execute(ordered.with_for_update() if lock else ordered).all())
    if not found:
        raise NotFound(f"there is no model {name!r} in namespace {namespace!r}")
    return found


def note_download(store: Store, model_id: str, actor: Actor) -> None:
    """Write down that somebody took a version's bytes."""
    store.db.write(lambda tx: audit.write(tx, rows.by_id(tx, model_id), "download", actor))


def touch(store: Store, model_id: str, progress: int) -> None:
    """Say that a version's bytes are coming."""
    mine = (model_versions.c.id == model_id) & (model_versions.c.state == ModelState.UNREADY)

    def step(tx: Transaction) -> None:
        tx.execute(update(model_versions).where(mine).values(touched_at=tx.now, progress=min(progress, 99)))
        tx.notify(rows.topic(model_id))

    store.db.write(step)
