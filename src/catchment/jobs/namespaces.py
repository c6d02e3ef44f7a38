"""Namespaces: explicit, so that a misspelt one is an error and not a new place."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from catchment.errors import InvalidField, NotFound, Refused
from catchment.jobs.spec import NAMESPACE
from catchment.jobs.times import rfc3339
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import jobs, model_versions, namespaces

DEFAULT = "default"


def create(store: Store, name: str) -> bool:
    """Make a namespace; False when it was there already.

    Raises:
        InvalidField: the name is no valid one.
    """
    if not re.fullmatch(NAMESPACE.strip("^$"), name):
        raise InvalidField("namespace", f"{name!r} must be 1 to 63 of a-z, 0-9 and '-', '-' not at an end")
    insert = sqlite.insert if store.db.is_sqlite else postgresql.insert

    def step(tx: Transaction) -> bool:
        statement = insert(namespaces).values(name=name, created_at=tx.now).on_conflict_do_nothing()
        # Not rowcount, which psycopg does not tell here.
        return tx.execute(statement.returning(namespaces.c.name)).first() is not None

    made = store.db.write(step)
    store.files.make_namespace(name)
    return made


def get(store: Store, name: str) -> dict[str, Any]:
    """One namespace. Raises NotFound."""
    row = store.db.read(lambda tx: tx.execute(select(namespaces).where(namespaces.c.name == name)).first())
    if row is None:
        raise NotFound(f"namespace {name!r} does not exist")
    return _shown(row)


def list_all(store: Store) -> list[dict[str, Any]]:
    """All namespaces, by name."""
    rows = store.db.read(lambda tx: tx.execute(select(namespaces).order_by(namespaces.c.name)).all())
    return [_shown(row) for row in rows]


def delete(store: Store, name: str) -> None:
    """Remove an empty namespace and its folder.

    Raises:
        NotFound: there is none of that name.
        Refused: it is `default`, or still has jobs or models.
    """
    if name == DEFAULT:
        raise Refused(f"namespace {DEFAULT!r} cannot be deleted")

    def step(tx: Transaction) -> None:
        require(tx, name, for_update=True)
        job = tx.execute(select(jobs.c.id).where(jobs.c.namespace == name).limit(1)).scalar()
        if job is not None:
            raise Refused(f"namespace {name!r} still has jobs, {job!r} for one; delete them first")
        mine = model_versions.c.namespace == name
        model = tx.execute(select(model_versions.c.name).where(mine).limit(1)).scalar()
        if model is not None:
            raise Refused(f"namespace {name!r} still has models, {model!r} for one; delete them first")
        tx.execute(namespaces.delete().where(namespaces.c.name == name))

    store.db.write(step)
    store.files.delete_namespace(name)


def require(tx: Transaction, name: str, *, for_update: bool = False) -> None:
    """Raise NotFound unless the namespace exists; `for_update` keeps it from going away meanwhile."""
    statement = select(namespaces.c.name).where(namespaces.c.name == name)
    if for_update:
        statement = statement.with_for_update()
    if tx.execute(statement).first() is None:
        raise NotFound(f"namespace {name!r} does not exist")


def _shown(row: Any) -> dict[str, Any]:
    return {"name": row.name, "create_time": rfc3339(row.created_at)}
