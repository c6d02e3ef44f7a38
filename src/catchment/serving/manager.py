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
from catchment.serving import rows, views
from catchment.serving.spec import NewServing, parse
from catchment.serving.states import Phase, State
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
            "created_by": _who(actor),
            "created_at": tx.now,
            "updated_at": tx.now,
            "weights": {},
            "observed": {},
        }
        tx.execute(insert(servings).values(**values))
        rows.event(tx, uid, "Created", f"created by {actor.login}")
        _ignored(tx, uid, new)
        add_rollout(tx, rows.by_uid(tx, uid), new.body, new.spec.model_dump(mode="json"), actor)

    try:
        store.db.write(step)
    except IntegrityError as error:
        raise AlreadyExists(f"serving {new.name!r} exists already in namespace {namespace!r}") from error
    return new.name


def update(store: Store, namespace: str, name: str, body: object, actor: Actor) -> dict[str, Any]:
    """Change a serving: another model, or anything else that runs, makes a rollout. The changed serving.

    Raises:
        InvalidField: a field is wrong, or the backend is another one.
        NotFound: no such serving.
        WrongState: a rollout is under way, it is being deleted, or it was changed since the body was read.
    """
    new = parse(body, namespace, store.settings.serving_backend, name)

    def step(tx: Transaction) -> None:
        row = _changeable(tx, namespace, name)
        if new.generation not in (None, row.generation):
            raise WrongState(
                f"serving {name!r} was changed since: its resourceVersion is now {row.generation}"
            )
        if new.backend != row.backend:
            raise InvalidField("backend", f"is {row.backend!r} and cannot be changed; make another serving")
        spec = new.spec.model_dump(mode="json")
        said = {"labels": new.labels, "annotations": new.annotations, "body": new.body}
        if _runs_alike(spec, row.spec) and row.state == State.AVAILABLE:
            rows.change(tx, row.uid, spec=spec, generation=row.generation + 1, **said)
            rows.event(tx, row.uid, "Updated", f"changed by {actor.login}; what runs stays as it is")
            return
        rows.change(tx, row.uid, spec=spec, generation=row.generation + 1, **said)
        rows.event(tx, row.uid, "Updated", f"changed by {actor.login}")
        _ignored(tx, row.uid, new)
        add_rollout(tx, row, new.body, spec, actor)

    store.db.write(step)
    return get(store, namespace, name)


def rollback(store: Store, namespace: str, name: str, to: int | None, actor: Actor) -> dict[str, Any]:
    """Go back: end the rollout that is under way, or return to an earlier one's state; the serving.

    Args:
        store: the store.
        namespace: of the serving.
        name: of the serving.
        to: number of a rollout that was promoted; None: the one before.
        actor: who asks.

    Raises:
        NotFound: no such serving or rollout.
        WrongState: there is nothing to go back to.
    """

    def step(tx: Transaction) -> None:
        row = rows.require(tx, namespace, name, lock=True)
        if row.deleting:
            raise WrongState(f"serving {name!r} is being deleted")
        if row.rolling is not None:
            if to is not None:
                raise WrongState(f"rollout {row.rolling} is under way; roll it back first, without a number")
            _request_stop(tx, row, f"rollback was asked for by {actor.login}")
            return
        back = _earlier(tx, row, to)
        reason = f"rollback to {back.number} was asked for by {actor.login}"
        rows.change(tx, row.uid, body=back.body, spec=back.spec, generation=row.generation + 1)
        rows.event(tx, row.uid, "RollbackAsked", reason, "Warning")
        add_rollout(tx, row, back.body, back.spec, actor, target=back.number)

    store.db.write(step)
    return get(store, namespace, name)


def decide(store: Store, namespace: str, name: str, approved: bool, actor: Actor) -> dict[str, Any]:
    """Approve or reject the rollout that waits for a person; the serving.

    Raises:
        NotFound: no such serving.
        WrongState: no rollout of it waits for that.
    """

    def step(tx: Transaction) -> None:
        row = rows.require(tx, namespace, name, lock=True)
        rollout = rows.rollout(tx, row.uid, row.rolling, lock=True) if row.rolling is not None else None
        if rollout is None or rollout.phase != Phase.AWAITING_APPROVAL or rollout.approval != "asked":
            raise WrongState(f"no rollout of serving {name!r} waits for approval")
        said = "approved" if approved else "rejected"
        told = f"{said} by {actor.login}"
        values: dict[str, Any] = {"approval": said, "approved_by": actor.login[:80], "message": told}
        values |= {"phase": Phase.PENDING} if approved else {"stop_requested": True}
        rows.change_rollout(tx, row.uid, rollout.number, **values)
        rows.event(tx, row.uid, said.capitalize(), f"rollout {rollout.number} {told}")

    store.db.write(step)
    return get(store, namespace, name)


def stop_rollout(store: Store, namespace: str, name: str, actor: Actor) -> dict[str, Any]:
    """Stop the rollout that is under way: it is rolled back; the serving.

    Raises:
        NotFound: no such serving.
        WrongState: none is under way.
    """

    def step(tx: Transaction) -> None:
        row = rows.require(tx, namespace, name, lock=True)
        if row.rolling is None:
            raise WrongState(f"no rollout of serving {name!r} is under way")
        _request_stop(tx, row, f"stop was asked for by {actor.login}")

    store.db.write(step)
    return get(store, namespace, name)


def request_stop_of_run(store: Store, flow_run_id: str) -> None:
    """Stop the rollout of a flow run that was cancelled in Prefect; nothing when there is none."""

    def step(tx: Transaction) -> None:
        mine = select(serving_rollouts).where(serving_rollouts.c.flow_run_id == flow_run_id)
        found = tx.execute(mine).first()
        if found is None:
            return
        row = rows.by_uid(tx, found.serving_uid, lock=True)
        if row.rolling == found.number:
            _request_stop(tx, row, "its flow run was cancelled")

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
            _request_stop(tx, row, message)

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


def add_rollout(
    tx: Transaction,
    row: Row[Any],
    body: dict[str, Any],
    spec: dict[str, Any],
    actor: Actor,
    target: int | None = None,
) -> int:
    """A new rollout of a serving that has none under way; its number."""
    number = int(row.last_rollout) + 1
    values = {
        "serving_uid": row.uid,
        "number": number,
        "kind": "rollout" if target is None else "rollback",
        "target": target,
        "body": body,
        "spec": spec,
        "phase": Phase.PENDING,
        "message": "waiting for a runner",
        "created_by": _who(actor),
        "created_at": tx.now,
        "phase_since": tx.now,
        "steps": {},
        "workloads": [],
    }
    tx.execute(insert(serving_rollouts).values(**values))
    rows.change(tx, row.uid, rolling=number, last_rollout=number)
    rows.event(tx, row.uid, "Pending", f"rollout {number} waits for a runner")
    return number


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


def _request_stop(tx: Transaction, row: Row[Any], message: str) -> None:
    current = rows.rollout(tx, row.uid, row.rolling, lock=True)
    if not current.stop_requested:
        rows.change_rollout(tx, row.uid, current.number, stop_requested=True, message=message)
        rows.event(tx, row.uid, "Stopping", f"rollout {current.number}: {message}", "Warning")


def _earlier(tx: Transaction, row: Row[Any], to: int | None) -> Row[Any]:
    """The rollout whose state is to be returned to: a promoted one that made workloads of its own."""
    if to is not None:
        found = rows.rollout(tx, row.uid, to)
        if found.phase != Phase.PROMOTED or found.kind != "rollout":
            raise WrongState(
                f"rollout {to} was no rollout that was promoted; it is a {found.kind}, {found.phase}"
            )
        return found
    if row.stable is None:
        raise WrongState(f"serving {row.name!r} has no state to go back to")
    stable = rows.rollout(tx, row.uid, row.stable)
    runs = stable.target or stable.number
    mine = (
        (serving_rollouts.c.serving_uid == row.uid)
        & (serving_rollouts.c.phase == Phase.PROMOTED)
        & (serving_rollouts.c.kind == "rollout")
        & (serving_rollouts.c.number < runs)
    )
    earlier = tx.execute(
        select(serving_rollouts).where(mine).order_by(serving_rollouts.c.number.desc()).limit(1)
    ).first()
    if earlier is None:
        raise WrongState(f"serving {row.name!r} has no earlier state: rollout {runs} was its first")
    return earlier


def _runs_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two specs ask for the same processes and the same traffic."""
    return all(one[part] == other[part] for part in ("predictors", "server"))


def _ignored(tx: Transaction, uid: str, new: NewServing) -> None:
    if new.ignored:
        rows.event(tx, uid, "Ignored", f"kept and not used: {', '.join(new.ignored)}", "Warning")


def _who(actor: Actor) -> dict[str, str]:
    return {"login": actor.login, "claimed": actor.claimed}
