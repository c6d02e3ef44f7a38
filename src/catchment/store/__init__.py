"""The store: the truth of jobs, rounds, updates and checkpoints. SQL rows, blobs by digest, files by path."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from catchment.errors import SetupError
from catchment.settings import Settings
from catchment.store.blobs import Blobs, FolderBlobs, RemoteBlobs
from catchment.store.database import Database
from catchment.store.files import FolderFiles, NamespaceFiles, RemoteFiles

S3_PATIENCE: dict[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 30,
    "retries": {"mode": "standard", "total_max_attempts": 5},
}
"""botocore's words: what an S3 server may take to say something, and how often a request is sent when it
answers 5xx, "slow down" or not at all; with back-off and jitter in between, 20 s at most."""
S3_ROUNDS = 2
"""s3fs repeats what botocore gave up. Its own five rounds would make 25 requests, 12 minutes for one read."""


class Store:
    """One process's access to the store.

    Attributes:
        settings: the settings that it was opened with.
        db: rows, transactions and signals.
        blobs: bytes by digest.
        files: the namespaces' folders.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.db = Database(settings.effective_database_url)
        self.blobs, self.files = _storage(settings)

    def close(self) -> None:
        """Close connections and end waits."""
        self.db.close()


def open_store(settings: Settings) -> Store:
    """The store, after a look whether its schema is this version's.

    Raises:
        SetupError: the database needs a migration, or the storage is none that this version knows.
    """
    store = Store(settings)
    try:
        store.db.check_version()
    except BaseException:
        store.close()
        raise
    return store


def migrate(settings: Settings) -> None:
    """Bring the database to this version's schema and make the namespace `default`."""
    from catchment.jobs import namespaces

    store = Store(settings)
    try:
        store.db.migrate()
        namespaces.create(store, namespaces.DEFAULT)
    finally:
        store.close()


def _storage(settings: Settings) -> tuple[Blobs, NamespaceFiles]:
    url = settings.effective_storage_url
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        root = Path(url2pathname(parts.path)) if parts.scheme else Path(url)
        return FolderBlobs(root / "blobs"), FolderFiles(root / "namespaces")
    filesystem = _filesystem(parts.scheme, settings)
    base = f"{parts.netloc}{parts.path}".rstrip("/")
    return (
        RemoteBlobs(filesystem, f"{base}/blobs", settings.effective_cache_dir / "blobs"),
        RemoteFiles(filesystem, f"{base}/namespaces"),
    )


def _filesystem(scheme: str, settings: Settings) -> Any:
    import fsspec

    # A listing that is remembered would hide what other processes have written since.
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme == "s3":
        # Signed addresses would be of version 2 otherwise, which newer servers do not take.
        options["config_kwargs"] = {**S3_PATIENCE, "signature_version": "s3v4"}
        if settings.s3_endpoint_url:
            options["client_kwargs"] = {"endpoint_url": settings.s3_endpoint_url}
    try:
        filesystem = fsspec.filesystem(scheme, **options)
    except (ImportError, ValueError) as error:
        raise SetupError(f"storage_url: {scheme}:// is not available here: {error}") from error
    if scheme == "s3":
        filesystem.retries = S3_ROUNDS
    return filesystem
