"""Reading and moving rows of jobs: the few statements that every rule about jobs is made of."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Row, select, update

from catchment.jobs.spec import Job
from catchment.jobs.states import AT_SITE, JobState, RoundState, WorkState
from catchment.runs.rows import NamedRows
from catchment.store.database import Transaction
from catchment.store.schema import jobs, rounds, works

_ROWS = NamedRows(jobs, "id", "job")
find, require, by_uid = _ROWS.find, _ROWS.require, _ROWS.by_uid
_CLIENT = re.compile(r"^(sim-[0-9a-f]{10})-[0-9]{6}$")
"""Name of a simulated client (catchment.simulation.fleet). A site that is called so is woken too often."""


def topic(uid: str) -> str:
    """What a job's flow and its watchers listen to."""
    return f"job:{uid}"


def secure_topic(uid: str) -> str:
    """What sites listen to that wait for the next step of a job's secure sum."""
    return f"secagg:{uid}"


def site_topic(site: str) -> str:
    """What a site's held-open request listens to. A job's simulated clients, who are waited for together,
    share one: everybody who listens to the store hears of every topic that is notified.
    """
    return "site:" + _CLIENT.sub(r"\1", site)


def change(tx: Transaction, uid: str, **values: Any) -> None:
    """Set columns of a job; watchers hear of it."""
    if "state" in values:
        values.setdefault("state_since", tx.now)
    tx.execute(update(jobs).where(jobs.c.uid == uid).values(**values))
    tx.notify(topic(uid))


def end(tx: Transaction, uid: str, state: JobState, reason: str = "", **values: Any) -> None:
    """A job's run is over: the state that stays, no lease, nothing left to stop."""
    change(
        tx,
        uid,
        state=state,
        reason=reason,
        finished_at=tx.now,
        stop_requested=False,
        queued_at=None,
        queued_fresh=False,
        waits_for_sites=False,
        lease_owner=None,
        lease_until=0.0,
        **values,
    )


def cancel_open_works(tx: Transaction, uid: str, reason: str) -> None:
    """Take back what sites still have and give up the open round; the sites' agents hear of it at once."""
    tx.execute(
        update(rounds)
        .where(rounds.c.job_uid == uid, rounds.c.state.in_((RoundState.SELECTED, RoundState.OPEN)))
        .values(state=RoundState.ABANDONED, reason=reason, collected_at=tx.now)
    )
    still_open = (works.c.job_uid == uid) & works.c.state.in_(AT_SITE)
    sites = tx.execute(select(works.c.site).where(still_open).distinct()).scalars().all()
    tx.execute(
        update(works).where(still_open).values(state=WorkState.CANCELLED, reason=reason, finished_at=tx.now)
    )
    tx.notify(*(site_topic(site) for site in sites))


def spec_of(row: Row[Any]) -> Job:
    """The job's specification; it was validated when it was stored."""
    return Job.model_validate(row.spec)
