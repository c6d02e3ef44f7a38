"""Bytes between coordinator and sites: blobs down, client updates up in resumable chunks."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Row, select, update

from catchment import faults
from catchment.errors import DigestMismatch, Forbidden, NotFound, OffsetMismatch, Refused, TransferError
from catchment.jobs import purge
from catchment.jobs.states import AT_SITE
from catchment.models.tensors import file_digest
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import works
from catchment.wire.messages import Blob

P = ParamSpec("P")
T = TypeVar("T")
WRITE_BYTES = 1 << 20
"""Received pieces are gathered to about this size before they are written."""

_receiving: set[str] = set()
"""Works whose bytes are being received in this process: two requests for one update must not mix."""


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
    scripts = order.get("scripts")
    return {order["weights"]["digest"]} | ({scripts["archive"]["digest"]} if scripts else set())


def upload_offset(store: Store, site: str, work_id: str, *, secured: bool = False) -> int:
    """How many bytes of a work's update are stored; all of them once it is complete.

    Raises:
        NotFound: the site has no such work.
        Forbidden: the work needs mutual TLS.
    """
    work = _own_work(store, site, work_id, secured)
    return int(work.update_bytes) if work.update else _stored(_staged(store, work_id))


async def receive(
    store: Store,
    site: str,
    work_id: str,
    *,
    start: int,
    total: int,
    digest: str,
    chunks: AsyncIterator[bytes],
    secured: bool = False,
) -> int:
    """Append bytes `start`.. of an update; once all `total` are there, check and keep it.

    Returns how many bytes are stored afterwards.

    Raises:
        NotFound: the site has no such work.
        Forbidden: the work needs mutual TLS.
        Refused: nobody wants the work any more, or it is too large.
        OffsetMismatch: `start` does not continue what is stored.
        DigestMismatch: the whole differs from its announced digest; the upload begins anew.
        TransferError: more bytes than announced, or two requests at once.
    """
    work = await asyncio.to_thread(_own_work, store, site, work_id, secured)
    if work.update == digest:
        return total
    if work.state not in AT_SITE:
        _staged(store, work_id).unlink(missing_ok=True)
        raise Refused(f"the update is not wanted any more: {work.reason or work.state}")
    if total > store.settings.max_update_bytes:
        raise Refused(f"the update has {total} bytes, at most {store.settings.max_update_bytes} are taken")
    if work_id in _receiving:
        raise TransferError(
            "another request is sending this update; wait for it to end, then ask for the offset"
        )
    _receiving.add(work_id)
    try:
        staged = _staged(store, work_id)
        if _stored(staged) > total:
            staged.unlink()  # what is there belongs to another, larger update
        if (stored := _stored(staged)) != start:
            raise OffsetMismatch(stored, start)
        stored = await _append(staged, start, total, chunks)
        if stored == total:
            await _in_thread(_keep, store, work_id, staged, digest, total)
        return stored
    finally:
        _receiving.discard(work_id)


def keep_arrived(store: Store, site: str, work_id: str, update: Blob, *, secured: bool = False) -> None:
    """Keep an update whose last byte arrived when the process or the storage broke down.

    Raises:
        NotFound: the site has no such work.
        Forbidden: the work needs a connection with mutual TLS.
        DigestMismatch: it differs from its announced digest; the upload begins anew.
        Refused: nobody wants it any more.
    """
    staged = _staged(store, work_id)
    if work_id in _receiving or not staged.exists() or _stored(staged) != update.size_bytes:
        return
    work = _own_work(store, site, work_id, secured)
    if work.state in AT_SITE and work.update != update.digest:
        _keep(store, work_id, staged, update.digest, update.size_bytes)


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run in a thread that is waited for even when the request is cancelled: it holds the request's file."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    finally:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])


async def _append(staged: Path, start: int, total: int, chunks: AsyncIterator[bytes]) -> int:
    """Write what arrives; what was written stays when the connection breaks off, and is continued later."""
    staged.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT, 0o600)
    stored, gathered = start, bytearray()
    try:
        async for chunk in chunks:
            gathered += chunk
            if stored + len(gathered) > total:
                raise TransferError(f"more than the announced {total} bytes arrive")
            faults.reach("mid_upload")
            if len(gathered) >= WRITE_BYTES:
                stored += await _in_thread(_write_all, descriptor, bytes(gathered), stored)
                gathered.clear()
        return stored + await _in_thread(_write_all, descriptor, bytes(gathered), stored)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes, offset: int) -> int:
    view = memoryview(data)
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], offset + done)
    return done


def _keep(store: Store, work_id: str, staged: Path, digest: str, total: int) -> None:
    try:
        actual = file_digest(staged)
    except FileNotFoundError:
        raise NotFound(f"work {work_id!r} was deleted meanwhile") from None
    if actual != digest:
        staged.unlink(missing_ok=True)
        raise DigestMismatch(digest, actual)
    store.blobs.put_file(staged, digest)

    def step(tx: Transaction) -> tuple[bool, str | None]:
        mine = works.c.id == work_id
        work = tx.execute(select(works).where(mine).with_for_update()).first()
        if work is None or work.state not in AT_SITE:
            return False, digest
        tx.execute(update(works).where(mine).values(update=digest, update_bytes=total))
        return True, work.update

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


def _staged(store: Store, work_id: str) -> Path:
    return store.blobs.staging_folder / f"update-{work_id}"


def _stored(staged: Path) -> int:
    try:
        return staged.stat().st_size
    except FileNotFoundError:
        return 0
