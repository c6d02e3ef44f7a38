"""Bytes between coordinator and sites: blobs down, client updates and files up in resumable chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Row, select, update

from catchment.errors import Forbidden, NotFound, Refused
from catchment.jobs import purge
from catchment.jobs.states import AT_SITE
from catchment.store import Store
from catchment.store.batch import Piece
from catchment.store.behind import in_thread
from catchment.store.database import Transaction
from catchment.store.receiving import StagedUpload, StagedUploads, stored_bytes
from catchment.store.schema import works
from catchment.wire.messages import Blob

Part = Literal["update", "files"]
"""What a work brings in bytes: the client update, and the archive of the script's result files."""

_uploads = StagedUploads()
"""What is being received in this process: two requests for one upload must not mix."""


def site_blob(store: Store, site: str, digest: str, *, secured: bool = False) -> tuple[Path, int]:
    """A local file with bytes that one of the site's own works refers to, and its size.

    Args:
        store: the store.
        site: its name.
        digest: the blob's.
        secured: whether the connection is mutually authenticated; other works do not count without.

    Raises:
        Forbidden: no work of this site needs the blob.
        NotFound: the store does not have it.
    """

    def step(tx: Transaction) -> bool:
        mine = select(works.c.order).where(works.c.site == site, works.c.state.in_(AT_SITE))
        orders = tx.execute(mine if secured else mine.where(~works.c.secured)).scalars()
        return any(digest in _digests(order) for order in orders)

    if not store.db.read(step):
        raise Forbidden(f"no open work of site {site!r} needs blob {digest}")
    path = store.blobs.local_path(digest)
    return path, path.stat().st_size


def _digests(order: dict[str, Any]) -> set[str]:
    scripts, state = order.get("scripts"), order.get("state")
    prepared = {blob["digest"] for blob in order.get("prepared", {}).values()}
    others = [scripts["archive"]] if scripts else []
    others += [state] if state else []
    return {order["weights"]["digest"]} | prepared | {blob["digest"] for blob in others}


def upload_offset(
    store: Store, site: str, work_id: str, part: Part = "update", *, secured: bool = False
) -> int:
    """How many bytes of a part of a work are stored; all of them once it is complete.

    Raises:
        NotFound: the site has no such work.
        Forbidden: the work needs mutual TLS.
    """
    work = _own_work(store, site, work_id, secured)
    digest, size = (work.update, work.update_bytes) if part == "update" else (work.files, work.files_bytes)
    return int(size) if digest else stored_bytes(staged_file(store, work_id, part))


async def receive(
    store: Store,
    site: str,
    work_id: str,
    *,
    start: int,
    total: int,
    digest: str,
    chunks: AsyncIterator[Piece],
    secured: bool = False,
    part: Part = "update",
) -> int:
    """Append bytes `start`.. of a part of a work; once all `total` are there, check and keep it.

    Returns how many bytes are stored afterwards.

    Raises:
        NotFound: the site has no such work.
        Forbidden: the work needs mutual TLS.
        Refused: nobody wants the work any more, or it is too large.
        OffsetMismatch: `start` does not continue what is stored.
        DigestMismatch: the whole differs from its announced digest; the upload begins anew.
        TransferError: more bytes than announced, or two requests at once.
        Unreachable: the disk does not take the bytes.
    """
    work = await asyncio.to_thread(_own_work, store, site, work_id, secured)
    if digest == (work.update if part == "update" else work.files):
        return total
    _check_wanted(store, work, part, total)
    with _uploads.open(staged_file(store, work_id, part)) as upload:
        stored = await upload.append(chunks, start=start, total=total)
        if stored == total:
            await in_thread(_keep, store, work_id, part, upload, digest, total)
        return stored


def _check_wanted(store: Store, work: Row[Any], part: Part, total: int) -> None:
    words, limit = (
        ("update has", store.settings.max_update_bytes)
        if part == "update"
        else ("script's files have", store.settings.max_files_bytes)
    )
    if work.state not in AT_SITE:
        staged_file(store, work.id, part).unlink(missing_ok=True)
        raise Refused(f"the {part} of the work is not wanted any more: {work.reason or work.state}")
    if part == "files" and not work.order.get("files_wanted"):
        raise Refused("the job uses no files of its scripts; nothing asked for them")
    if total > limit:
        raise Refused(f"the {words} {total} bytes, at most {limit} are taken")


def keep_arrived(
    store: Store, site: str, work_id: str, part: Part, blob: Blob, *, secured: bool = False
) -> None:
    """Keep a part of a work whose last byte arrived when the process or the storage broke down.

    Raises:
        NotFound: the site has no such work.
        Forbidden: the work needs a connection with mutual TLS.
        DigestMismatch: it differs from its announced digest; the upload begins anew.
        Refused: nobody wants it any more.
    """
    staged = staged_file(store, work_id, part)
    if _uploads.is_open(staged) or not staged.exists() or stored_bytes(staged) != blob.size_bytes:
        return
    work = _own_work(store, site, work_id, secured)
    if work.state in AT_SITE and blob.digest != (work.update if part == "update" else work.files):
        with _uploads.open(staged) as upload:
            _keep(store, work_id, part, upload, blob.digest, blob.size_bytes)


def _keep(store: Store, work_id: str, part: Part, upload: StagedUpload, digest: str, total: int) -> None:
    upload.finish(digest)
    staged = upload.path
    store.blobs.prepare(staged, digest)

    def step(tx: Transaction) -> tuple[bool, str | None]:
        purge.lock_blobs(tx, [digest], shared=True)
        if staged.exists():  # else an earlier try of this transaction has put it
            store.blobs.put_file(staged, digest)
        purge.hold_blobs(store, tx, [digest])
        mine = works.c.id == work_id
        work = tx.execute(select(works).where(mine).with_for_update()).first()
        if work is None or work.state not in AT_SITE:
            return False, digest
        tx.execute(update(works).where(mine).values({part: digest, f"{part}_bytes": total}))
        return True, work.update if part == "update" else work.files

    wanted, useless = store.db.write(step)
    if useless is not None:
        purge.delete_unreferenced(store, {useless})
    if not wanted:
        raise Refused("the update is not wanted any more: its work was closed while it arrived")


def _own_work(store: Store, site: str, work_id: str, secured: bool) -> Row[Any]:
    work = store.db.read(
        lambda tx: tx.execute(select(works).where(works.c.id == work_id, works.c.site == site)).first()
    )
    if work is None:
        raise NotFound(f"site {site!r} has no work {work_id!r}")
    require_secured(work, secured)
    return work


def require_secured(work: Row[Any], secured: bool) -> None:
    """Refuse a connection without mutual TLS for a work that needs it. Raises Forbidden."""
    if work.secured and not secured:
        raise Forbidden(f"work {work.id!r} belongs to a job with ssl; it needs a connection with mutual TLS")


def staged_file(store: Store, work_id: str, part: Part) -> Path:
    """Where the bytes of a part gather until it is complete."""
    return store.blobs.staging_folder / f"{part}-{work_id}"
