"""Versions of several files: uploaded as a zip in chunks, downloaded as a zip that is never built."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from catchment.catalog import describing, manager, removal, rows
from catchment.catalog.audit import Actor
from catchment.catalog.content import Arrived, complete, fail, require_ready
from catchment.catalog.rows import VersionFile
from catchment.catalog.spec import CHECKPOINT, NewModel, check_name, check_version
from catchment.catalog.states import ModelState
from catchment.errors import AlreadyExists, BadArtifact, InvalidField, OffsetMismatch
from catchment.models import config as configs
from catchment.models import documents
from catchment.models.config import ModelConfig
from catchment.models.files import Limits
from catchment.models.folders import inside_model, with_format
from catchment.models.receiving import receive as receive_files
from catchment.models.stored_zip import StoredZip
from catchment.models.zips import read_zip, version_zip
from catchment.store import Store
from catchment.store.batch import Piece
from catchment.store.database import Transaction
from catchment.store.receiving import StagedUpload, StagedUploads

_uploads = StagedUploads()
_UNKNOWN = "unknown"
"""The runtime of a version while its files have not been seen."""


@dataclass(frozen=True)
class Place:
    """Where a version belongs, as the registry's paths name it."""

    namespace: str
    name: str
    version: str

    def __post_init__(self) -> None:
        check_name(self.name, "modelName")
        check_version(self.version, "versionName")


@dataclass(frozen=True)
class Chunk:
    """Bytes `start` up to `stop` of a zip of `total` bytes."""

    start: int
    stop: int
    total: int


async def receive(
    store: Store,
    place: Place,
    actor: Actor,
    chunk: Chunk | None,
    pieces: AsyncIterator[Piece],
    described: Callable[[], ModelConfig],
) -> bool:
    """Take a chunk of an upload, or all of it; whether the version is ready now.

    A chunk that begins at 0 begins the upload anew. The version appears when all of the zip is there and
    holds what its format asks for.

    Args:
        store: the store.
        place: the version.
        actor: who uploads; another one's upload of the same version is not mixed with it.
        chunk: which part this is; None for a whole zip of unknown size.
        pieces: its bytes.
        described: what the request says of the model; asked once all pieces were read.

    Raises:
        NotFound: no such namespace.
        AlreadyExists: the version is there, or somebody else is uploading it.
        OffsetMismatch: the chunk does not continue what is stored.
        InvalidField: it is too large.
        BadArtifact: the zip is none that is taken; the upload begins anew.
        FormatMismatch: its files are not what the format asks for; as before.
        TransferError: the bytes stop, are more than announced, or come by two requests at once.
    """
    if CHECKPOINT.fullmatch(place.version):
        raise InvalidField("versionName", f"{place.version!r} is kept for the checkpoints of jobs")
    limit = store.settings.max_model_bytes
    total = limit if chunk is None else chunk.total
    if total > limit:
        raise InvalidField(
            "Content-Range", f"a zip of {total} bytes is larger than the {limit} that are taken"
        )
    start = chunk.start if chunk is not None else 0
    row = await asyncio.to_thread(store.db.write, lambda tx: _begun(store, tx, place, actor, start))
    with _uploads.open(removal.staged_upload(store, row.id)) as upload:
        if start == 0:
            upload.discard()
        ends = chunk is None or chunk.stop == chunk.total
        if upload.stored == total and ends:  # all came before, and the process died over it
            async for _ in pieces:
                pass
        else:
            total_now = await upload.append(pieces, start=start, total=total)
            if chunk is not None and total_now < chunk.total:
                await asyncio.to_thread(manager.touch, store, row.id, 100 * total_now // chunk.total)
                return False
        await asyncio.to_thread(_finish, store, row, upload, described, actor)
    return True


def _begun(store: Store, tx: Transaction, place: Place, actor: Actor, start: int) -> Row[Any]:
    """The version's row, unready and this actor's; made when a first chunk comes."""
    row = rows.find(tx, place.namespace, place.name, place.version, lock=True)
    named = f"version {place.version!r} of model {place.name!r}"
    by = {"login": actor.login, "claimed": actor.claimed}
    if row is None:
        new = NewModel(name=place.name, version=place.version, runtime=_UNKNOWN)
        if start:
            raise OffsetMismatch(0, start)
        return manager.insert_new(tx, place.namespace, new, actor, lineage={"kind": "upload", "by": by})
    if row.state in (ModelState.READY, ModelState.DELETING) or row.model_path or row.file_name:
        raise AlreadyExists(f"{named} is there already; upload another version, or delete it first")
    alive = row.state == ModelState.UNREADY and not tx.has_passed(
        row.touched_at, store.settings.upload_stall_s
    )
    if row.lineage.get("by") != by and alive:
        raise AlreadyExists(f"{named} is being uploaded by somebody else just now")
    lineage = {**row.lineage, "by": by}
    rows.change(tx, row.id, state=ModelState.UNREADY, error="", touched_at=tx.now, lineage=lineage)
    return rows.by_id(tx, row.id)


def _finish(
    store: Store, row: Row[Any], upload: StagedUpload, described: Callable[[], ModelConfig], actor: Actor
) -> None:
    """Take the zip's files out, hold them against the format, and make the version ready with them."""
    places: list[Path] = []

    def place() -> Path:
        places.append(upload.path.with_name(f"{upload.path.name}-{len(places)}"))
        return places[-1]

    try:
        config = described()
        limits = Limits(max_bytes=store.settings.max_model_bytes)
        files = list(receive_files(read_zip(upload.path, limits), place))
        config = with_format(config, files)
        manager.touch(store, row.id, 99)
        values: dict[str, Any] = {"format": config.format, "config": config.written()}
        values["description"] = config.description
        values["runtime"] = (config.framework or config.format).lower()
        arrived = [
            Arrived(VersionFile(inside_model(file.name), file.digest, file.size, file.crc32), staged)
            for file, staged in zip(files, places, strict=True)
        ]
        complete(store, row.id, arrived, actor, **values)
    except (BadArtifact, InvalidField) as error:
        fail(store, row.id, str(error))
        raise
    finally:
        for staged in places:
            staged.unlink(missing_ok=True)
    upload.discard()


def described_by(text: str | None) -> ModelConfig:
    """What the form field `model` says; nothing where it is not given.

    Raises:
        InvalidField: it cannot be read.
    """
    if text is None or not text.strip():
        return ModelConfig()
    try:
        tree = documents.read_json(text.encode("utf-8", "surrogatepass"), "the form field")
        signature = {key: tree.pop(key) for key in ("inputs", "outputs") if tree.get(key)}
        if signature:
            tree["signature"] = signature
        return configs.from_tree(tree, "the form field")
    except (BadArtifact, UnicodeError) as error:
        raise InvalidField("model", str(error)) from error


def version_as_zip(store: Store, place: Place) -> tuple[StoredZip, Row[Any]]:
    """The zip of a ready version, and the version's row.

    Raises:
        NotFound: no such version.
        WrongState: it is not ready.
    """

    def step(tx: Transaction) -> tuple[Row[Any], list[VersionFile]]:
        row = rows.require(tx, place.namespace, place.name, place.version)
        return row, require_ready(tx, row)

    row, files = store.db.read(step)
    files = describing.with_checksums(store, row.id, files)
    zipped = version_zip(row.version, describing.config_of(row), describing.travelling(store, row, files))
    return zipped, row


def zip_tag(row: Row[Any]) -> str:
    """Names the bytes of a version's zip: they change with its files and with what it says of itself."""
    described = hashlib.sha256(describing.config_of(row).to_yaml()).hexdigest()
    return f"{row.digest}-{described[:16]}"
