"""Who did what to which model version: written once, in the transaction that did it, and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Row, insert, select

from catchment.jobs.times import rfc3339
from catchment.store.database import Transaction
from catchment.store.schema import audit

Action = Literal["create", "ready", "error", "update", "delete", "download", "push", "pull"]
COORDINATOR = "coordinator"


@dataclass(frozen=True)
class Actor:
    """Who asks for something.

    Attributes:
        login: the identity that was proven: a token's id and role, `local` without a login, `coordinator`.
        claimed: who the caller says to be beside it (X-Tenant and X-User); nothing proves it.
    """

    login: str = COORDINATOR
    claimed: str = ""


def write(tx: Transaction, row: Row[Any], action: Action, actor: Actor, **detail: Any) -> None:
    """Add an entry about a version."""
    about = {"model_id": row.id, "namespace": row.namespace, "name": row.name, "version": row.version}
    who = {"actor": actor.login[:80], "claimed": actor.claimed[:1000]}
    tx.execute(insert(audit).values(at=tx.now, action=action, detail=detail, **about, **who))


def entries(tx: Transaction, model_id: str) -> list[dict[str, Any]]:
    """All entries about a version, oldest first; also when it is gone."""
    found = tx.execute(select(audit).where(audit.c.model_id == model_id).order_by(audit.c.number))
    return [
        {
            "time": rfc3339(row.at),
            "action": row.action,
            "actor": row.actor,
            "claimed": row.claimed,
            **({"detail": row.detail} if row.detail else {}),
        }
        for row in found
    ]
