"""What users decide about rollouts: back to what was before, yes or no, stop."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from catchment.catalog.audit import Actor
from catchment.errors import WrongState
from catchment.serving import rows
from catchment.serving.adding import add_rollout
from catchment.serving.states import RolloutPhase
from catchment.serving.undoing import PROMOTED_STEP
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import serving_rollouts


def rollback(store: Store, namespace: str, name: str, to: int | None, actor: Actor) -> None:
    """Go back: end the rollout that is under way, or return to an earlier one's state.

    Args:
        store: the store.
        namespace: of the serving.
        name: of the serving.
        to: number of a rollout that was promoted; None: the one before.
        actor: who asks.

    Raises:
        NotFound: no such serving or rollout.
        WrongState: there is nothing to go back to, or the rollout has its version in place already.
    """

    def step(tx: Transaction) -> None:
        row = rows.require(tx, namespace, name, lock=True)
        if row.deleting:
            raise WrongState(f"serving {name!r} is being deleted")
        if row.rolling is not None:
            if to is not None:
                raise WrongState(f"rollout {row.rolling} is under way; roll it back first, without a number")
            _refuse_promoted(tx, row)
            request_stop(tx, row, f"rollback was asked for by {actor.login}")
            return
        back = _earlier(tx, row, to)
        reason = f"rollback to {back.number} was asked for by {actor.login}"
        said = {"labels": row.labels, "annotations": row.annotations, **rows.said(back)}
        rows.change(tx, row.uid, generation=row.generation + 1, **said)
        rows.event(tx, row.uid, "RollbackAsked", reason, "Warning")
        add_rollout(tx, row, said, actor, target=back.number)

    store.db.write(step)


def decide(store: Store, namespace: str, name: str, approved: bool, actor: Actor) -> None:
    """Approve or reject the rollout that waits for a person.

    Raises:
        NotFound: no such serving.
        WrongState: no rollout of it waits for that.
    """

    def step(tx: Transaction) -> None:
        row = rows.require(tx, namespace, name, lock=True)
        rollout = rows.rollout(tx, row.uid, row.rolling, lock=True) if row.rolling is not None else None
        if rollout is None or rollout.phase != RolloutPhase.AWAITING_APPROVAL or rollout.approval != "asked":
            raise WrongState(f"no rollout of serving {name!r} waits for approval")
        if rollout.stop_requested:
            raise WrongState(f"rollout {rollout.number} of serving {name!r} is stopping: {rollout.message}")
        said = "approved" if approved else "rejected"
        told = f"{said} by {actor.login}"
        values: dict[str, Any] = {"approval": said, "approved_by": actor.login[:80], "message": told}
        values |= {"phase": RolloutPhase.PENDING} if approved else {"stop_requested": True}
        rows.change_rollout(tx, row.uid, rollout.number, **values)
        rows.event(tx, row.uid, said.capitalize(), f"rollout {rollout.number} {told}")

    store.db.write(step)


def stop_rollout(store: Store, namespace: str, name: str, actor: Actor) -> None:
    """Stop the rollout that is under way: it is rolled back.

    Raises:
        NotFound: no such serving.
        WrongState: none is under way, or it has its version in place already.
    """

    def step(tx: Transaction) -> None:
        row = rows.require(tx, namespace, name, lock=True)
        if row.rolling is None:
            raise WrongState(f"no rollout of serving {name!r} is under way")
        _refuse_promoted(tx, row)
        request_stop(tx, row, f"stop was asked for by {actor.login}")

    store.db.write(step)


def request_stop_of_run(store: Store, flow_run_id: str) -> None:
    """Stop the rollout of a flow run that was cancelled in Prefect; nothing when there is none."""

    def step(tx: Transaction) -> None:
        mine = select(serving_rollouts).where(serving_rollouts.c.flow_run_id == flow_run_id)
        found = tx.execute(mine).first()
        if found is None:
            return
        row = rows.by_uid(tx, found.serving_uid, lock=True)
        if row.rolling == found.number:
            request_stop(tx, row, "its flow run was cancelled")

    store.db.write(step)


def _earlier(tx: Transaction, row: Row[Any], to: int | None) -> Row[Any]:
    """The rollout whose state is to be returned to: a promoted one that made workloads of its own."""
    if to is not None:
        found = rows.rollout(tx, row.uid, to)
        if found.phase != RolloutPhase.PROMOTED or found.kind != "rollout":
            raise WrongState(
                f"rollout {to} was no rollout that was promoted; it is a {found.kind}, {found.phase}"
            )
        return found
    if row.stable is None:
        raise WrongState(f"serving {row.name!r} has no state to go back to")
    runs = _made_it(tx, row.uid, row.stable)
    before = runs.steps[PROMOTED_STEP]["before"]
    if before is None:
        raise WrongState(f"serving {row.name!r} has no earlier state: rollout {runs.number} was its first")
    return _made_it(tx, row.uid, before)


def _made_it(tx: Transaction, uid: str, number: int) -> Row[Any]:
    """The rollout that made what a promoted one runs: itself, or the one that a rollback returned to."""
    found = rows.rollout(tx, uid, number)
    return found if found.target is None else rows.rollout(tx, uid, found.target)


def _refuse_promoted(tx: Transaction, row: Row[Any]) -> None:
    """A stop that would be taken and change nothing is refused: such a rollout only goes on."""
    if PROMOTED_STEP in rows.rollout(tx, row.uid, row.rolling).steps:
        raise WrongState(
            f"rollout {row.rolling} of serving {row.name!r} has taken all of the traffic and only ends what "
            "was there before; roll it back when it has ended"
        )


def request_stop(tx: Transaction, row: Row[Any], message: str) -> None:
    """Have the rollout that is under way stopped; its flow, or the supervisor, rolls it back."""
    current = rows.rollout(tx, row.uid, row.rolling, lock=True)
    if not current.stop_requested:
        rows.change_rollout(tx, row.uid, current.number, stop_requested=True, message=message)
        rows.event(tx, row.uid, "Stopping", f"rollout {current.number}: {message}", "Warning")
