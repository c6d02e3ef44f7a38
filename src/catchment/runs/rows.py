"""Rows that users know by namespace and name, and the store by their own identity; what happened to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Row, Select, Table, func, insert, select

from catchment.errors import NotFound
from catchment.store.database import Transaction

MESSAGE_CHARACTERS = 2_000
"""Of a message that is kept with a row or an event; the rest of a longer one is not."""


@dataclass(frozen=True)
class NamedRows:
    """The rows of one table.

    Attributes:
        table: with the columns `namespace` and `uid`.
        name: its column that names a row within a namespace.
        kind: what a row is, for people.
    """

    table: Table
    name: str
    kind: str

    def find(self, tx: Transaction, namespace: str, name: str, *, lock: bool = False) -> Row[Any] | None:
        """The row; with `lock` nobody else moves it until the transaction ends."""
        columns = self.table.c
        statement = select(self.table).where(columns.namespace == namespace, columns[self.name] == name)
        return _first(tx, statement, lock)

    def require(self, tx: Transaction, namespace: str, name: str, *, lock: bool = False) -> Row[Any]:
        """`find`, or NotFound."""
        row = self.find(tx, namespace, name, lock=lock)
        if row is None:
            raise NotFound(f"{self.kind} {name!r} does not exist in namespace {namespace!r}")
        return row

    def by_uid(self, tx: Transaction, uid: str, *, lock: bool = False) -> Row[Any]:
        """The row by its own identity, or NotFound when it was deleted."""
        row = _first(tx, select(self.table).where(self.table.c.uid == uid), lock)
        if row is None:
            raise NotFound(f"the {self.kind} was deleted")
        return row


def _first(tx: Transaction, statement: Select[Any], lock: bool) -> Row[Any] | None:
    return tx.execute(statement.with_for_update() if lock else statement).first()


@dataclass(frozen=True)
class Events:
    """What happened to the rows of one table.

    Attributes:
        table: of the events.
        owner: its column with the uid of the row that an event is about.
    """

    table: Table
    owner: str

    def add(
        self,
        tx: Transaction,
        uid: str,
        reason: str,
        message: str,
        kind: Literal["Normal", "Warning"] = "Normal",
    ) -> None:
        """Add an event: one for each transition and each step."""
        said = message[:MESSAGE_CHARACTERS]
        values = {self.owner: uid, "at": tx.now, "type": kind, "reason": reason, "message": said}
        tx.execute(insert(self.table).values(**values))

    def count(self, tx: Transaction, uid: str) -> int:
        """How many events a row has."""
        mine = self.table.c[self.owner] == uid
        return int(tx.execute(select(func.count()).select_from(self.table).where(mine)).scalar_one())
