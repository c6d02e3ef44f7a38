"""What users do to servings: create, change, roll back, look at, delete them, read their events."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Row, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from catchment.catalog.audit import Actor
from catchment.errors import AlreadyExists, InvalidField, WrongState
from catchment.jobs import namespaces
from catchment.runs.views import envelope
from catchment.serving import deciding, rows, views
from catchment.serving.adding import add_rollout, who
from catchment.serving.spec import NewServing, parse
from catchment.serving.states import State
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import (
    serving_endpoints,
    serving_events,
    serving_figures,
    serving_rollouts,
    serving_workloads,
    servings,
)


def create(store: Store, namespace: str, body: object, actor: Actor) -> str:
    """A new serving and its first rollout, Pending until its flow run begins; the serving's name.

    Raises:
        InvalidField: a field is wrong.
        NotFound: no such namespace.
        AlreadyExists: there is one of this name.
    """
    new = parse(body, namespace, store.settings.serving_backend)
    uid = uuid.uuid4().hex

    def step(tx: Transaction) -> None:
        namespaces.require(tx, namespace, for_update=True)
        values = {
            "uid": uid,
            "namespace": namespace,
            "name": new.name,
            "labels": new.labels,
            "annotations": new.annotations,
            "body": new.body,
            "spec": new.spec.model_dump(mode="json"),
            "backend": new.backend,
            "state": State.CREATING,
            "message": "waiting for a runner",
            "created_by": who(actor),
            "created_at": tx.now,
            "updated_at": tx.now,
            "weights": {},
            "observed": {},
        }
        tx.execute(insert(servings).values(**values))
        rows.event(tx, uid, "Created", f"created by {actor.login}")
        _ignored(tx, uid, new)
        add_rollout(tx, rows.by_uid(tx, uid), values, actor)

    try:
        store.db.write(step)
    except IntegrityError as error:
        raise AlreadyExists(f"serving {new.name!r} exists already in namespace {namespace!r}") from error
    return new.name


def update(store: Store, namespace: str, name: str, body: object, actor: Actor) -> None:
    """Change a serving: another model, or anything else that runs, makes a rollout.

    Raises:
        InvalidField: a field is wrong, or the backend is another one.
        NotFound: no such serving.
        WrongState: a rollout is under way, it is being deleted, or it was changed since the body was read.
    """
    there = store.db.read(lambda tx: rows.require(tx, namespace, name))
    new = parse(body, namespace, there.backend, name)

    def step(tx: Transaction) -> None:
        row = _changeable(tx, namespace, name)
        if new.generation not in (None, row.generation):
            raise WrongState(
                f"serving {name!r} was changed since: its resourceVersion is now {row.generation}"
            )
        if new.backend != row.backend:
            raise InvalidField("backend", f"is {row.backend!r} and cannot be changed; make another serving")
        spec = new.spec.model_dump(mode="json")
        said = {"spec": spec, "labels": new.labels, "annotations": new.annotations, "body": new.body}
        rows.change(tx, row.uid, generation=row.generation + 1, **said)
        _ignored(tx, row.uid, new)
        if _runs_alike(spec, row.spec) and row.state == State.AVAILABLE:
            # What the next rollout returns to, should it go back.
            rows.change_rollout(tx, row.uid, row.stable, **rows.kept_of(said))
            rows.event(tx, row.uid, "Updated", f"changed by {actor.login}; what runs stays as it is")
            return
        rows.event(tx, row.uid, "Updated", f"changed by {actor.login}")
        add_rollout(tx, row, said, actor)

    store.db.write(step)


def request_delete(store: Store, namespace: str, name: str) -> None:
    """Take a serving out of service and remove it, its rollout first. Raises NotFound."""

    def step(tx: Transaction) -> None:
        row = rows.require(tx, namespace, name, lock=True)
        if row.deleting:
            return
        message = "delete was asked for"
        rows.change(tx, row.uid, deleting=True, state=State.DELETING, message=message)
        rows.event(tx, row.uid, "Deleting", message)
        if row.rolling is not None:
            deciding.request_stop(tx, row, message)

    store.db.write(step)


def get(store: Store, namespace: str, name: str, base_url: str = "") -> dict[str, Any]:
    """One serving. Raises NotFound."""
    return store.db.read(lambda tx: _view(tx, rows.require(tx, namespace, name), base_url))


def list_page(
    store: Store, namespace: str, *, start: int, limit: int | None, base_url: str = ""
) -> dict[str, Any]:
    """A page of a namespace's servings, by name."""

    def step(tx: Transaction) -> dict[str, Any]:
        mine = servings.c.namespace == namespace
        total = tx.execute(select(func.count()).select_from(servings).where(mine)).scalar_one()
        ordered = select(servings).where(mine).order_by(servings.c.name)
        found = tx.execute(ordered.offset(start).limit(limit)).all()
        return envelope(int(total), [_view(tx, row, base_url) for row in found])

    return store.db.read(step)


def events(store: Store, namespace: str, name: str, *, start: int, limit: int | None) -> dict[str, Any]:
    """A page of a serving's events, oldest first. Raises NotFound."""

    def step(tx: Transaction) -> dict[str, Any]:
        row = rows.require(tx, namespace, name)
        mine = select(serving_events).where(serving_events.c.serving_uid == row.uid)
        page = tx.execute(mine.order_by(serving_events.c.number).offset(start).limit(limit)).all()
        return envelope(rows.count_events(tx, row.uid), [views.event_view(row, each) for each in page])

    return store.db.read(step)


def rollouts(store: Store, namespace: str, name: str, *, start: int, limit: int | None) -> dict[str, Any]:
    """A page of a serving's rollouts, newest first. Raises NotFound."""

    def step(tx: Transaction) -> dict[str, Any]:
        row = rows.require(tx, namespace, name)
        mine = serving_rollouts.c.serving_uid == row.uid
        total = tx.execute(select(func.count()).select_from(serving_rollouts).where(mine)).scalar_one()
        ordered = select(serving_rollouts).where(mine).order_by(serving_rollouts.c.number.desc())
        page = tx.execute(ordered.offset(start).limit(limit)).all()
        return envelope(int(total), [views.rollout_view(each) for each in page])

    return store.db.read(step)


def purge_serving(store: Store, uid: str) -> None:
    """Remove the rows of a serving that nothing runs of any more. Safe to repeat."""

    def step(tx: Transaction) -> None:
        for table in (
            serving_rollouts,
            serving_events,
            serving_workloads,
            serving_endpoints,
            serving_figures,
        ):
            tx.execute(delete(table).where(table.c.serving_uid == uid))
        tx.execute(delete(servings).where(servings.c.uid == uid))
        tx.notify(rows.topic(uid))

    store.db.write(step)


def _view(tx: Transaction, row: Row[Any], base_url: str) -> dict[str, Any]:
    newest = rows.rollout(tx, row.uid, row.last_rollout) if row.last_rollout else None
    return views.serving_view(row, rows.stable_workloads(tx, row), newest, base_url)


def _changeable(tx: Transaction, namespace: str, name: str) -> Row[Any]:
    row = rows.require(tx, namespace, name, lock=True)
    if row.deleting:
        raise WrongState(f"serving {name!r} is being deleted")
    if row.rolling is not None:
        raise WrongState(
            f"rollout {row.rolling} of serving {name!r} is under way; wait for it, or roll it back"
        )
    return row


def _runs_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two specs ask for the same processes and the same traffic."""
    return all(one[part] == other[part] for part in ("predictors", "server"))


def _ignored(tx: Transaction, uid: str, new: NewServing) -> None:
    if new.ignored:
        rows.event(tx, uid, "Ignored", f"kept and not used: {', '.join(new.ignored)}", "Warning")
