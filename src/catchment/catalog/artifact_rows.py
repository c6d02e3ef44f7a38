"""Rows of the blobs that a repository has: parts of its artifacts, and what was uploaded to it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Literal

from sqlalchemy import Row, and_, delete, insert, select, update

from catchment.store.database import Transaction
from catchment.store.schema import artifact_blobs, model_versions

Kind = Literal["config", "layer", "manifest", "referrer", "blob"]
"""`referrer`: the manifest of what is attached to an artifact; `blob`: no manifest has named it yet."""
_table = artifact_blobs.c


def find(tx: Transaction, namespace: str, name: str, digest: str, *, lock: bool = False) -> Row[Any] | None:
    """A repository's blob."""
    statement = select(artifact_blobs).where(_one(namespace, name, digest))
    return tx.execute(statement.with_for_update() if lock else statement).first()


def put(
    tx: Transaction,
    repository: tuple[str, str],
    digest: str,
    size: int,
    kind: Kind,
    *,
    media_type: str = "",
    version_id: str | None = None,
    stored: bool = True,
) -> None:
    """Say that a repository has a blob. What is a part of an artifact already stays one."""
    namespace, name = repository
    row = find(tx, namespace, name, digest, lock=True)
    if row is None:
        values = {"namespace": namespace, "name": name, "digest": digest, "size_bytes": size, "kind": kind}
        more = {"media_type": media_type[:255], "version_id": version_id, "stored": stored}
        tx.execute(insert(artifact_blobs).values(**values, **more, created_at=tx.now))
        return
    changes: dict[str, Any] = {"created_at": tx.now}
    if kind != "blob":
        changes |= {"kind": kind, "media_type": media_type[:255], "version_id": version_id}
    tx.execute(update(artifact_blobs).where(_one(namespace, name, digest)).values(**changes))


def remove(tx: Transaction, namespace: str, name: str, digest: str) -> None:
    """Forget one blob of a repository."""
    tx.execute(delete(artifact_blobs).where(_one(namespace, name, digest)))


def drop(tx: Transaction, versions: Iterable[Row[Any]]) -> set[str]:
    """Forget the blobs of versions that go; digests of those that their repository has no use for any more.

    What another version of the same model also has becomes that one's.
    """
    gone: set[str] = set()
    for version in versions:
        mine = tx.execute(select(artifact_blobs).where(_table.version_id == version.id)).all()
        others = _users(tx, version, {row.digest for row in mine}) if mine else {}
        for row in mine:
            where = _one(row.namespace, row.name, row.digest)
            if row.digest in others:
                heir = others[row.digest]
                tx.execute(update(artifact_blobs).where(where).values(version_id=heir))
            else:
                tx.execute(delete(artifact_blobs).where(where))
                gone.add(row.digest)
    return gone


def digests_of(version: Row[Any] | Row[Any, Any, Any]) -> set[str]:
    """Digests of all that belongs to a version's artifact."""
    artifact = version.artifact or {}
    attached = artifact.get("referrers", [])
    found = {version.manifest, *artifact.get("blobs", [])} - {None}
    return found.union(*({each["digest"], *each["blobs"]} for each in attached))


def _users(tx: Transaction, version: Row[Any], digests: Collection[str]) -> dict[str, str]:
    """Which other versions of the model have these digests, by digest."""
    table = model_versions.c
    same = (table.namespace == version.namespace) & (table.name == version.name) & (table.id != version.id)
    found: dict[str, str] = {}
    for row in tx.execute(select(table.id, table.manifest, table.artifact).where(same)):
        for digest in digests_of(row) & set(digests):
            found[digest] = row.id
    return found


def _one(namespace: str, name: str, digest: str) -> Any:
    return and_(_table.namespace == namespace, _table.name == name, _table.digest == digest)
