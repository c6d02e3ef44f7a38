"""Hashing blobs again: whether the storage still has the bytes that their digests name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select

from catchment.catalog import audit
from catchment.catalog import rows as catalog_rows
from catchment.catalog.audit import Actor
from catchment.errors import NotFound
from catchment.jobs import purge
from catchment.maintenance.plan import PREFIXES
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import audit as entries
from catchment.store.schema import model_files, model_versions

LOGIN = "maintenance"


@dataclass(frozen=True)
class Broken:
    """A blob whose bytes are not what its digest names; `versions` are the models that have it."""

    digest: str
    actual: str
    kind: str
    versions: tuple[str, ...]


@dataclass(frozen=True)
class Verified:
    """What was hashed; `left` of the part's blobs were not, for they are more than may be read."""

    part: int
    parts: int
    blobs: int
    bytes: int
    left: int
    broken: tuple[Broken, ...]


def part_of_day(day: int, parts: int) -> int:
    """The part that a day has, so that all parts have theirs within so many days."""
    return day % parts


def verify(store: Store, *, part: int, parts: int, most_bytes: int) -> Verified:
    """Hash a part of all blobs again, and write broken ones into the audit of the models that have them.

    Nothing is removed: a broken blob may be mended from a backup, and what is left of it is a trace.

    Args:
        store: the store.
        part: number of the part, from 0 on.
        parts: all blobs are in one of so many.
        most_bytes: so much is read at most.

    Raises:
        Unreachable: the storage or the database does not answer.
    """
    blobs = size = left = 0
    broken: list[Broken] = []
    for prefix in range(PREFIXES * part // parts, PREFIXES * (part + 1) // parts):
        for kept in store.blobs.listed(prefix):
            if size + kept.size_bytes > most_bytes:
                left += 1
                continue
            try:
                actual = store.blobs.actual_digest(kept.digest)
            except NotFound:
                continue  # it was removed meanwhile
            blobs, size = blobs + 1, size + kept.size_bytes
            if actual != kept.digest:
                broken.append(_reported(store, kept.digest, actual))
    return Verified(part, parts, blobs, size, left, tuple(broken))


def _reported(store: Store, digest: str, actual: str) -> Broken:
    """Who has the blob, each with an entry in its audit, unless it has it already."""

    def step(tx: Transaction) -> Broken:
        having = select(model_files.c.version_id).where(model_files.c.digest == digest).distinct()
        found = tx.execute(select(model_versions).where(model_versions.c.id.in_(having))).all()
        for row in found:
            _write_once(tx, row, digest, actual)
        kind = purge.owners(tx, {digest}).get(digest, "nothing")
        names = tuple(sorted(f"{row.namespace}/{row.name}:{row.version}" for row in found))
        return Broken(digest, actual, kind, names)

    return store.db.write(step)


def _write_once(tx: Transaction, row: Row[Any], digest: str, actual: str) -> None:
    mine = (entries.c.model_id == row.id) & (entries.c.actor == LOGIN) & (entries.c.action == "error")
    known = tx.execute(select(entries.c.detail).where(mine)).scalars()
    if any(each.get("broken") == digest and each.get("found") == actual for each in known):
        return
    audit.write(tx, row, "error", Actor(LOGIN), broken=digest, found=actual)
    tx.notify(catalog_rows.topic(row.id))
