"""Messages of secure aggregation in the store: each once, under its attempt, step and site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from catchment.errors import ProtocolRefused
from catchment.jobs.states import AT_SITE
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import secagg_messages as table
from catchment.store.schema import works
from catchment.wire.secagg import Said, Told

Step = Said | Told
ALL = ""
"""In the place of a site: a message for everybody."""


@dataclass(frozen=True)
class Attempt:
    """One attempt at a secure sum."""

    job_uid: str
    run: int
    round: int
    attempt: int

    @classmethod
    def of_work(cls, work: Row[Any]) -> Attempt:
        """The attempt that a work belongs to."""
        return cls(work.job_uid, work.run, work.round, work.attempt)

    @classmethod
    def of_round(cls, row: Row[Any]) -> Attempt:
        """The attempt of a row of rounds."""
        return cls(row.job_uid, row.run, row.number, row.attempt)

    @property
    def rows(self) -> ColumnElement[bool]:
        """The condition for its messages."""
        return (
            (table.c.job_uid == self.job_uid)
            & (table.c.run == self.run)
            & (table.c.round == self.round)
            & (table.c.attempt == self.attempt)
        )


def put(store: Store, tx: Transaction, attempt: Attempt, step: Step, site: str, body: str) -> None:
    """Keep a message. The same again is harmless.

    Raises:
        ProtocolRefused: another one is there already.
    """
    values = {"job_uid": attempt.job_uid, "run": attempt.run, "round": attempt.round}
    values |= {"attempt": attempt.attempt, "step": step, "site": site, "body": body, "created_at": tx.now}
    insert = sqlite.insert if store.db.is_sqlite else postgresql.insert
    new = insert(table).values(**values).on_conflict_do_nothing().returning(table.c.site)
    if tx.execute(new).first() is None and get(tx, attempt, step, site) != body:
        raise ProtocolRefused(f"another message of step {step!r} was sent before in this attempt")


def get(tx: Transaction, attempt: Attempt, step: Step, site: str = ALL) -> str | None:
    """A message, if it is there."""
    mine = attempt.rows & (table.c.step == step) & (table.c.site == site)
    return tx.execute(select(table.c.body).where(mine)).scalar()


def count_of(tx: Transaction, attempt: Attempt, step: Step) -> int:
    """How many sites have said something at a step."""
    mine = attempt.rows & (table.c.step == step) & (table.c.site != ALL)
    return int(tx.execute(select(func.count()).select_from(table).where(mine)).scalar() or 0)


def still_missing(tx: Transaction, attempt: Attempt, step: Step) -> bool:
    """Whether a site that is at work for the attempt has said nothing at a step yet."""
    given = select(table.c.site).where(attempt.rows, table.c.step == step)
    silent = select(works.c.id).where(
        works.c.job_uid == attempt.job_uid,
        works.c.run == attempt.run,
        works.c.round == attempt.round,
        works.c.attempt == attempt.attempt,
        works.c.kind == "train",
        works.c.state.in_(AT_SITE),
        works.c.site.not_in(given),
    )
    return tx.execute(silent.limit(1)).first() is not None


def all_of(tx: Transaction, attempt: Attempt, step: Step) -> dict[str, str]:
    """All sites' messages of a step, by site."""
    statement = select(table.c.site, table.c.body).where(attempt.rows & (table.c.step == step))
    return {row.site: row.body for row in tx.execute(statement.order_by(table.c.site))}


def some_of(tx: Transaction, attempt: Attempt, *wanted: tuple[Step, str]) -> dict[Step, str]:
    """Those of the wanted messages (step, site) that are there, by step."""
    places = tuple_(table.c.step, table.c.site).in_(wanted)
    found = tx.execute(select(table.c.step, table.c.body).where(attempt.rows & places))
    return {row.step: row.body for row in found}


def created_at(tx: Transaction, attempt: Attempt, step: Step) -> float | None:
    """When the first message of a step was kept."""
    mine = attempt.rows & (table.c.step == step)
    return tx.execute(select(table.c.created_at).where(mine).order_by(table.c.created_at).limit(1)).scalar()


def forget(tx: Transaction, job_uid: str, run: int, upto: int) -> None:
    """Remove the messages of a run's rounds up to one: they have done their work."""
    tx.execute(delete(table).where(table.c.job_uid == job_uid, table.c.run == run, table.c.round <= upto))
