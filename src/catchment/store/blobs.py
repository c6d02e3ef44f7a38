"""Blobs by SHA-256: bytes that are written once, never changed, and found by their digest.

One machine keeps them in a folder; `s3://` and everything else that fsspec knows keeps them remotely,
with verified copies in a local cache. In both, a blob is either wholly there or not there at all.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from catchment.durable import sync_folder
from catchment.errors import DigestMismatch, NotFound, PathRefused, Unreachable
from catchment.models.tensors import file_digest


@dataclass(frozen=True)
class Kept:
    """A blob as the storage lists it; `age_s`: seconds since it was put there."""

    digest: str
    size_bytes: int
    age_s: float


class Blobs(Protocol):
    """Where blobs are kept. Digests have the form `sha256:<64 hex digits>`."""

    staging_folder: Path
    """Local folder for bytes on their way in; `put_file` takes files from it without copying where it can."""

    def put_file(self, source: Path, digest: str, *, durable: bool = True) -> None:
        """Take over `source`, whose digest the caller has computed; the source is gone afterwards.

        `durable`: whether it must outlive a power failure that comes right after.
        """

    def prepare(self, source: Path, digest: str) -> None:
        """Do the slow part of `put_file` beforehand; the source stays."""

    def local_path(self, digest: str) -> Path:
        """A local file with the blob's bytes; it must not be changed. Raises NotFound."""

    def size(self, digest: str) -> int:
        """Bytes of the blob. Raises NotFound."""

    def exists(self, digest: str) -> bool:
        """True when the blob is wholly there."""

    def signed_url(self, digest: str, expires_s: int) -> str | None:
        """An address from which anybody can fetch the blob for a while; None where the storage has none."""

    def delete(self, digest: str) -> None:
        """Remove the blob if it is there."""

    def listed(self, prefix: int) -> list[Kept]:
        """The blobs whose digests begin with this byte."""

    def actual_digest(self, digest: str) -> str:
        """The digest of the bytes that the storage has of a blob, read from there now. Raises NotFound."""


def put_bytes(blobs: Blobs, data: bytes) -> str:
    """Store `data`, return its digest."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if not blobs.exists(digest):
        staged = new_staged_file(blobs)
        staged.write_bytes(data)
        blobs.put_file(staged, digest)
    return digest


def new_staged_file(blobs: Blobs) -> Path:
    """A name in the staging folder that nobody else uses."""
    blobs.staging_folder.mkdir(parents=True, exist_ok=True)
    return blobs.staging_folder / f"new-{secrets.token_hex(16)}"


def keep_staged(blobs: Blobs, staged: Path, *, digest: str = "", durable: bool = True) -> str:
    """Make a staged file a blob; its digest. The file is gone afterwards, also when that fails.

    Args:
        blobs: where it goes.
        staged: the file.
        digest: its digest, where the caller knows it.
        durable: as `Blobs.put_file` takes it.
    """
    try:
        digest = digest or file_digest(staged)
        blobs.put_file(staged, digest, durable=durable)
    finally:
        staged.unlink(missing_ok=True)
    return digest


def _relative(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise PathRefused(f"{digest!r} is no digest of the form sha256:<64 hex digits>")
    return f"sha256/{value[:2]}/{value[2:]}"


class FolderBlobs:
    """Blobs in a local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.staging_folder = root / "staging"

    def prepare(self, source: Path, digest: str) -> None:
        """Sync the bytes to the disk."""
        with source.open("rb") as file:
            os.fsync(file.fileno())

    def put_file(self, source: Path, digest: str, *, durable: bool = True) -> None:
        """Move `source` to its place: synced, then renamed, so that no reader sees a part."""
        target = self.root / _relative(digest)
        if target.exists():
            source.unlink()
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if durable:
            self.prepare(source, digest)
        source.chmod(0o444)
        try:
            source.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            staged = new_staged_file(self)
            shutil.copyfile(source, staged)
            source.unlink()
            self.put_file(staged, digest, durable=durable)
        if durable:
            sync_folder(target.parent)

    def local_path(self, digest: str) -> Path:
        """The blob's own file."""
        path = self.root / _relative(digest)
        if not path.exists():
            raise NotFound(f"blob {digest} is not in the store")
        return path

    def size(self, digest: str) -> int:
        """Bytes of the blob."""
        return self.local_path(digest).stat().st_size

    def exists(self, digest: str) -> bool:
        """True when the blob is there."""
        return (self.root / _relative(digest)).exists()

    def signed_url(self, digest: str, expires_s: int) -> str | None:
        """None: a folder has no addresses."""
        return None

    def delete(self, digest: str) -> None:
        """Remove the blob if it is there."""
        (self.root / _relative(digest)).unlink(missing_ok=True)

    def listed(self, prefix: int) -> list[Kept]:
        """The blobs whose digests begin with this byte."""
        found, now = [], time.time()
        with (
            contextlib.suppress(FileNotFoundError),
            os.scandir(self.root / f"sha256/{prefix:02x}") as entries,
        ):
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                    told = entry.stat()
                    digest = f"sha256:{prefix:02x}{entry.name}"
                    found.append(Kept(digest, told.st_size, max(0.0, now - told.st_mtime)))
        return sorted(found, key=lambda kept: kept.digest)

    def actual_digest(self, digest: str) -> str:
        """The digest of the file's bytes."""
        return file_digest(self.local_path(digest))


class RemoteBlobs:
    """Blobs in an object store that fsspec reaches; every copy that is read was verified on arrival."""

    def __init__(self, filesystem: Any, root: str, cache: Path) -> None:
        self._files = filesystem
        self._root = root.rstrip("/")
        self._cache = FolderBlobs(cache)
        self._sizes: dict[str, int] = {}
        self._create_only = {"mode": "create"} if is_s3(filesystem) else {}
        self.staging_folder = self._cache.staging_folder

    def prepare(self, source: Path, digest: str) -> None:
        """Upload it, unless it is there. An object appears whole or not at all, and is never overwritten."""
        with _translated(digest):
            if not self._files.exists(self._key(digest)):
                # Who is quicker wins: another coordinator brings the same bytes.
                with contextlib.suppress(FileExistsError):
                    self._files.put_file(str(source), self._key(digest), **self._create_only)

    def put_file(self, source: Path, digest: str, *, durable: bool = True) -> None:
        """Upload `source`, then keep it as the cached copy."""
        self.prepare(source, digest)
        self._cache.put_file(source, digest, durable=durable)

    def local_path(self, digest: str) -> Path:
        """The cached copy, fetched and verified when it is missing."""
        if not self._cache.exists(digest):
            staged = new_staged_file(self)
            try:
                with _translated(digest):
                    self._files.get_file(self._key(digest), str(staged))
                actual = file_digest(staged)
                if actual != digest:
                    raise DigestMismatch(digest, actual)
                self._cache.put_file(staged, digest)
            finally:
                staged.unlink(missing_ok=True)
        return self._cache.local_path(digest)

    def size(self, digest: str) -> int:
        """Bytes of the object; asked for once, since a blob never changes."""
        if self._cache.exists(digest):
            return self._cache.size(digest)
        if digest not in self._sizes:
            with _translated(digest):
                self._sizes[digest] = int(self._files.info(self._key(digest))["size"])
        return self._sizes[digest]

    def exists(self, digest: str) -> bool:
        """True when the object is there; the cache alone does not count."""
        with _translated(digest):
            return bool(self._files.exists(self._key(digest)))

    def delete(self, digest: str) -> None:
        """Remove object and cached copy."""
        with _translated(digest):
            if self._files.exists(self._key(digest)):
                self._files.rm_file(self._key(digest))
        self._sizes.pop(digest, None)
        self._cache.delete(digest)

    def listed(self, prefix: int) -> list[Kept]:
        """The objects whose digests begin with this byte."""
        now = time.time()
        with _translated(f"sha256/{prefix:02x}"):
            found = self._files.find(f"{self._root}/sha256/{prefix:02x}", detail=True)
        kept = [
            Kept(
                f"sha256:{prefix:02x}{name.rpartition('/')[2]}", int(info["size"]), now - _changed(info, now)
            )
            for name, info in found.items()
        ]
        return sorted(kept, key=lambda each: each.digest)

    def actual_digest(self, digest: str) -> str:
        """The digest of the object's bytes, not those of the cached copy."""
        total = hashlib.sha256()
        with _translated(digest), self._files.open(self._key(digest), "rb") as file:
            while piece := file.read(1 << 20):
                total.update(piece)
        return f"sha256:{total.hexdigest()}"

    def signed_url(self, digest: str, expires_s: int) -> str | None:
        """An address from which anybody can fetch the blob for a while; None where the storage has none."""
        return signed_url(self._files, self._key(digest), "get_object", expires_s)

    def _key(self, digest: str) -> str:
        return f"{self._root}/{_relative(digest)}"


def _changed(info: dict[str, Any], now: float) -> float:
    """When an object was written, in seconds since the epoch; now, where the storage does not say."""
    told = info.get("LastModified") or info.get("mtime") or info.get("created") or now
    return float(told.timestamp() if isinstance(told, datetime) else told)


def is_s3(filesystem: Any) -> bool:
    """Whether it speaks S3, with conditional writes and signed addresses."""
    return "s3" in filesystem.protocol


def signed_url(filesystem: Any, key: str, method: str, expires_s: int) -> str | None:
    """An address that carries the right to one request (boto's name of it) for a while; S3 only."""
    return str(filesystem.url(key, expires_s, method)) if is_s3(filesystem) else None


class _translated:  # noqa: N801 - reads as a statement
    """Errors of an object store in Catchment's words."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise NotFound(f"{self._name} is not in the storage") from error
        if isinstance(error, (OSError, TimeoutError)) or type(error).__module__.startswith("botocore"):
            raise Unreachable(f"the storage does not answer for {self._name}: {error}") from error
