"""Removing blobs that nothing refers to any more."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from catchment.jobs import purge
from catchment.maintenance.plan import PREFIXES
from catchment.store import Store
from catchment.store.blobs import Kept

ASKED_AT_ONCE = 500
UNUSED = "nothing"


@dataclass
class Swept:
    """What was found and removed.

    Attributes:
        blobs, bytes: by the table that refers to them; `nothing` where none does.
        removed, freed_bytes: what was removed, or in a dry run would be.
    """

    dry_run: bool
    blobs: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    removed: int = 0
    freed_bytes: int = 0


def sweep(store: Store, *, grace_s: float, dry_run: bool = False) -> Swept:
    """Remove the blobs that nothing refers to and that were written longer ago than `grace_s` seconds.

    Whether something refers to a blob is asked again under its lock, right before it goes: whoever is about
    to refer to it holds that lock, or finds it gone and makes it again (jobs.purge.hold_blobs).

    Raises:
        Unreachable: the storage or the database does not answer.
    """
    swept = Swept(dry_run)
    for prefix in range(PREFIXES):
        found = store.blobs.listed(prefix)
        for start in range(0, len(found), ASKED_AT_ONCE):
            _sweep(store, found[start : start + ASKED_AT_ONCE], grace_s, swept)
    return swept


def _sweep(store: Store, found: list[Kept], grace_s: float, swept: Swept) -> None:
    used = store.db.read(lambda tx: purge.owners(tx, {kept.digest for kept in found}))
    old = [kept for kept in found if kept.digest not in used and kept.age_s >= grace_s]
    if not swept.dry_run:
        purge.delete_unreferenced(store, {kept.digest for kept in old})
        old = [kept for kept in old if not store.blobs.exists(kept.digest)]
    swept.removed += len(old)
    swept.freed_bytes += sum(kept.size_bytes for kept in old)
    gone = {kept.digest for kept in old} if not swept.dry_run else set()
    for kept in found:
        if kept.digest not in gone:
            kind = used.get(kept.digest, UNUSED)
            swept.blobs[kind] += 1
            swept.bytes[kind] += kept.size_bytes
