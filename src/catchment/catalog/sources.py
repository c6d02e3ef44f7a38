"""Versions as what a job's training begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Row, select

from catchment.catalog import content, rows
from catchment.catalog.rows import VersionFile
from catchment.errors import InvalidField, WrongState
from catchment.jobs.spec import Job
from catchment.models.initial import ACCEPTED, SUFFIXES, import_weights
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import checkpoints


def require_usable(tx: Transaction, namespace: str, job: Job, field: str, model_id: str) -> Row[Any]:
    """The version, if the job can begin with it.

    Raises:
        NotFound: there is none with this id.
        InvalidField: it is of another namespace or runtime, not ready, or holds no weights that can be read.
    """
    row = rows.by_id(tx, model_id)
    named = f"version {row.version!r} of model {row.name!r}"
    if row.namespace != namespace:
        raise InvalidField(field, f"{named} is in namespace {row.namespace!r}, the job in {namespace!r}")
    try:
        files = content.require_ready(tx, row)
    except WrongState as error:
        raise InvalidField(field, f"{error}; only a ready model can be trained") from error
    if row.runtime != job.runtime:
        raise InvalidField(field, f"{named} is of runtime {row.runtime!r}, the job of {job.runtime!r}")
    weights_file(files, field, named)
    return row


def weights_file(files: list[VersionFile], field: str, named: str) -> VersionFile:
    """The one file among a version's files that holds weights. Raises InvalidField."""
    fit = [file for file in files if file.path.lower().endswith(SUFFIXES)]
    if len(fit) != 1:
        held = ", ".join(file.path for file in files[:10])
        raise InvalidField(field, f"{named} holds {held}; a job needs just one of {ACCEPTED}")
    return fit[0]


def import_version(store: Store, namespace: str, job: Job, staged: Path) -> None:
    """Read the weights of the version that the job names into the tensor file `staged`.

    Raises:
        NotFound: the version or its bytes are gone.
        InvalidField: as `require_usable`.
        BadTensors: the file does not hold what its name says.
    """
    field, model_id = job.model_source

    def step(tx: Transaction) -> VersionFile:
        row = require_usable(tx, namespace, job, field, model_id)
        return weights_file(content.require_ready(tx, row), field, row.name)

    with content.opened(store, store.db.read(step)) as path:
        import_weights(path, staged, job.runtime)


def checkpoint_state(tx: Transaction, model_id: str) -> str | None:
    """Digest of the strategy's state that a checkpoint was saved with, by the checkpoint's model id."""
    row = rows.by_id(tx, model_id)
    number = row.version.removeprefix("checkpoint_v")
    if row.job_uid is None or not number.isdigit():
        return None
    mine = (checkpoints.c.job_uid == row.job_uid) & (checkpoints.c.number == int(number))
    return tx.execute(select(checkpoints.c.state).where(mine)).scalar()


def parent_of(tx: Transaction, uid: str, source: tuple[str, str]) -> str | None:
    """Id of the version that a run began with: what the job named, or its own checkpoint."""
    field, value = source
    if field == "model_path":
        return None
    own = rows.of_checkpoint(tx, uid, value) if field == "checkpoint_id" else None
    return own or value
