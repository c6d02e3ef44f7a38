"""A ModelJob's files on this machine: the source as a folder, and what a conversion has made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import Row, delete, insert, select

from catchment.catalog import content
from catchment.catalog import rows as catalog_rows
from catchment.catalog.content import Arrived
from catchment.catalog.copying import copy_with_digest
from catchment.catalog.rows import VersionFile
from catchment.errors import WrongState
from catchment.jobs import purge
from catchment.model_jobs.claim import ModelJobClaim, held
from catchment.model_jobs.manager import work_folder
from catchment.models.files import files_of
from catchment.models.folders import inside_model
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_job_files

SOURCE, MADE = "source", "made"


def source_folder(store: Store, claim: ModelJobClaim) -> Path:
    """The source version's files as a folder; laid out anew where it is not there.

    Raises:
        NotFound: the version is gone.
        WrongState: it is not ready any more, or has other bytes than when it was pulled.
    """

    files = store.db.write(lambda tx: source_files(tx, held(tx, claim)))
    return laid_out(store, work_folder(store, claim.uid) / SOURCE, files)


def source_files(tx: Transaction, job: Row[Any]) -> list[VersionFile]:
    """The files of a job's source, while they are what they were when it was pulled.

    Raises:
        NotFound: the version is gone.
        WrongState: it is not ready any more, or has other bytes.
    """
    row = catalog_rows.by_id(tx, job.source_id)
    if row.digest != job.steps["pull"]["digest"]:
        raise WrongState(f"version {row.version!r} of model {row.name!r} was changed while it was worked on")
    return content.require_ready(tx, row)


def laid_out(store: Store, folder: Path, files: list[VersionFile]) -> Path:
    """The files below `folder`, which appears when all of them are there."""
    if folder.exists():
        return folder
    aside = folder.with_name(f"{folder.name}-new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for file in files:
        target = aside / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with content.opened(store, file) as path:
            _placed(path.resolve(), target)
    aside.replace(folder)
    return folder


def _placed(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def copy_external_data(folder: Path) -> None:
    """Give the weights beside an ONNX file bytes of their own, in place.

    The onnx package reads none from a file of several names. Safe to repeat.
    """
    for path in (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".onnx"):
        if path.stat().st_nlink > 1:
            aside = path.with_name(f".{path.name}.own")
            shutil.copyfile(path, aside)
            aside.replace(path)


def keep_made(store: Store, claim: ModelJobClaim, folder: Path) -> list[VersionFile]:
    """Make the files of a conversion blobs that belong to the job, until it pushes them.

    Raises:
        JobStopped, LeaseLost: as `held`.
        BadArtifact: a link or device is among them.
    """
    place = work_folder(store, claim.uid) / "kept"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    arrived: list[Arrived] = []
    for number, file in enumerate(files_of(folder)):
        staged, inside = place / str(number), inside_model(file.name)
        digest, size = copy_with_digest(folder / inside, staged, lambda _done, _total: None)
        arrived.append(Arrived(VersionFile(inside, digest, size), staged))
    for each in arrived:
        store.blobs.prepare(each.staged, each.file.digest)

    def step(tx: Transaction) -> None:
        digests = [each.file.digest for each in arrived]
        purge.lock_blobs(tx, digests, shared=True)
        for each in arrived:
            if each.staged.exists():
                store.blobs.put_file(each.staged, each.file.digest)
        purge.hold_blobs(store, tx, digests)
        held(tx, claim)
        tx.execute(delete(model_job_files).where(model_job_files.c.job_uid == claim.uid))
        values = [
            {
                "job_uid": claim.uid,
                "path": each.file.path,
                "digest": each.file.digest,
                "size_bytes": each.file.size_bytes,
                "crc32": each.file.crc32,
            }
            for each in arrived
        ]
        tx.execute(insert(model_job_files), values)

    store.db.write(step)
    return [each.file for each in arrived]


def made_files(tx: Transaction, uid: str) -> list[VersionFile]:
    """What the job's conversion has made; nothing before it is done."""
    mine = select(model_job_files).where(model_job_files.c.job_uid == uid)
    return [
        VersionFile(row.path, row.digest, row.size_bytes, row.crc32)
        for row in tx.execute(mine.order_by(model_job_files.c.path))
    ]
