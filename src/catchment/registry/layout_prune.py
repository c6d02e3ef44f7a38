"""Which blobs of an image layout are still named by a manifest, and what to do about the others."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterable
from pathlib import Path

from catchment.registry.artifacts import Descriptor, Index, Manifest, read_manifest


def prune_blobs(folder: Path, entries: Iterable[Descriptor], unused_s: float) -> int:
    """Remove what is named by no entry, directly or not, and older than `unused_s`; the bytes freed.

    The caller holds the layout's lock.
    """
    before = time.time() - unused_s
    kept = _named(folder, entries)
    freed = 0
    for blob in (folder / "blobs" / "sha256").glob("*"):
        if f"sha256:{blob.name}" not in kept:
            freed += _remove(blob, before)
    for partial in (folder / "ingest").glob("*.partial"):
        with partial.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # somebody is writing it
            freed += _remove(partial, before)
    return freed


def _named(folder: Path, entries: Iterable[Descriptor]) -> set[str]:
    """Digests of all that entries name. Raises InvalidField for what is no manifest: then nothing goes."""
    found: set[str] = set()
    waiting = list(entries)
    while waiting:
        each = waiting.pop()
        path = folder / "blobs" / "sha256" / each.digest.removeprefix("sha256:")
        if each.digest in found or not path.is_file():
            continue
        found.add(each.digest)
        parsed = read_manifest(path.read_bytes(), each.media_type)
        if isinstance(parsed, Manifest):
            found |= {blob.digest for blob in parsed.blobs()}
        if isinstance(parsed, Index):
            waiting += parsed.manifests
    return found


def _remove(path: Path, before: float) -> int:
    facts = path.stat()
    if facts.st_mtime > before:
        return 0
    path.unlink()
    return facts.st_size
