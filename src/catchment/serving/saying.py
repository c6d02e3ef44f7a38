"""What a rollout waits for, where people look."""

from __future__ import annotations

from catchment.serving import rows
from catchment.serving.claim import RolloutClaim, held
from catchment.store import Store
from catchment.store.database import Transaction


def say(store: Store, claim: RolloutClaim, message: str) -> None:
    """Make this the claimed rollout's message. Raises JobStopped, LeaseLost."""

    def step(tx: Transaction) -> None:
        held(tx, claim)
        rows.change_rollout(tx, claim.uid, claim.number, message=message[:2000])

    store.db.write(step)
