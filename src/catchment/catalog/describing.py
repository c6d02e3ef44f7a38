"""A version as it travels: what it says of itself, and its files by their sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Row, Update, update

from catchment.catalog.packed import PackedSource
from catchment.catalog.rows import VersionFile
from catchment.models import config as configs
from catchment.models import times
from catchment.models.config import ModelConfig
from catchment.models.files import MODEL_FOLDER, ModelFile
from catchment.models.spans import FileSource, Source, crc32_of
from catchment.store import Store
from catchment.store.blobs import Blobs
from catchment.store.database import Transaction
from catchment.store.schema import model_files


@dataclass(frozen=True)
class BlobSource:
    """A blob's bytes; fetched from a remote storage when they are first asked for."""

    blobs: Blobs
    digest: str

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """As models.spans.Source.read says. Raises NotFound when the storage has lost it."""
        return FileSource(self.blobs.local_path(self.digest)).read(start, stop)


def config_of(row: Row[Any]) -> ModelConfig:
    """What a version says of itself: what came with it, and what its row knows."""
    config = configs.from_tree(row.config) if row.config else ModelConfig()
    changes: dict[str, Any] = {"description": row.description, "format": row.format or config.format}
    if config.created == times.UNSET:
        changes["created"] = times.from_datetime(datetime.fromtimestamp(round(row.created_at), UTC))
    if not config.framework:
        changes["framework"] = row.runtime
    return config.model_copy(update=changes)


def _source(store: Store, file: VersionFile) -> Source:
    return BlobSource(store.blobs, file.digest) if file.layer is None else PackedSource(store, file)


def travelling(store: Store, row: Row[Any], files: list[VersionFile]) -> list[ModelFile]:
    """A version's files, named `model/...`, with the time of its creation: always the same bytes."""
    return [
        ModelFile(
            f"{MODEL_FOLDER}/{file.path}",
            file.size_bytes,
            _source(store, file),
            file.digest,
            file.crc32,
            mtime=int(row.created_at),
        )
        for file in files
    ]


def with_checksums(store: Store, model_id: str, files: list[VersionFile]) -> list[VersionFile]:
    """The files with their CRC-32; those that nobody knew are read once, and remembered."""
    found: list[VersionFile] = []
    for file in files:
        if file.crc32 is None:
            crc = crc32_of(_source(store, file), file.size_bytes)
            mine = (model_files.c.version_id == model_id) & (model_files.c.path == file.path)
            statement = update(model_files).where(mine).values(crc32=crc)
            store.db.write(partial(_execute, statement))
            file = replace(file, crc32=crc)  # noqa: PLW2901 - the same file, better known
        found.append(file)
    return found


def _execute(statement: Update, tx: Transaction) -> None:
    tx.execute(statement)
