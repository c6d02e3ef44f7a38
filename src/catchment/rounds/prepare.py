"""The beginning of a run: initial weights and scripts become blobs, so that nothing changes under a run."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePosixPath
from typing import Any

from catchment.errors import InvalidField, NotFound
from catchment.jobs import log, purge, rows
from catchment.jobs.spec import Job, ScriptsConfig
from catchment.models.initial import import_weights
from catchment.models.tensors import file_digest
from catchment.rounds.claim import Claim, held
from catchment.store import Store
from catchment.store.blobs import new_staged_file, put_bytes
from catchment.store.database import Transaction
from catchment.wire.messages import Blob, SentScripts

ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""Every member's time, so that equal folders give equal archives."""


def prepare_run(store: Store, claim: Claim) -> str:
    """Make sure that the run has initial weights and the start its scripts; the weights' digest.

    Raises:
        InvalidField: the model file or the scripts cannot be used; names the job's field.
        BadTensors: the model file holds no usable tensors.
        JobStopped, LeaseLost: as `held`.
    """
    row = store.db.read(lambda tx: held(tx, claim, lock=False))
    job = rows.spec_of(row)
    values: dict[str, Any] = {"sent_scripts": None}
    if job.scripts is not None:
        values["sent_scripts"] = pack_scripts(store, claim.namespace, job.scripts).model_dump()
    digest: str | None = row.initial_weights
    if digest is None or not store.blobs.exists(digest):
        digest = import_initial_weights(store, claim, job)
        values["initial_weights"] = digest

    def step(tx: Transaction) -> None:
        held(tx, claim)
        rows.change(tx, claim.uid, **values)
        if "initial_weights" in values:
            told = "initial weights read from {} {!r}".format(*job.model_source)
            log.write(tx, claim.uid, log.Line(told, run=claim.run))

    store.db.write(step)
    return digest


def import_initial_weights(store: Store, claim: Claim, job: Job) -> str:
    """Read the job's model source into a blob; its digest."""
    field, value = job.model_source
    path = value
    if field == "checkpoint_id":
        known = store.db.read(lambda tx: purge.checkpoint_paths(tx, claim.uid))
        if value not in known:
            raise InvalidField("checkpoint_id", f"{value!r} is no checkpoint of this job")
        path = known[value]
    staged = new_staged_file(store.blobs)
    try:
        with store.files.fetched(claim.namespace, path) as source:
            import_weights(source, staged, job.runtime)
    except NotFound as error:
        raise InvalidField(field, str(error)) from error
    digest = file_digest(staged)
    store.blobs.put_file(staged, digest)
    return digest


def pack_scripts(store: Store, namespace: str, scripts: ScriptsConfig) -> SentScripts:
    """The script folder as a blob: a zip whose bytes depend on names and contents alone.

    Raises:
        InvalidField: the folder is empty, too large, or lacks the configuration file.
    """
    names = store.files.list_files(namespace, scripts.path)
    if scripts.config_file not in names:
        raise InvalidField(
            "scripts.config_file", f"{scripts.config_file!r} is not in folder {scripts.path!r}"
        )
    buffer, total = io.BytesIO(), 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            if "__pycache__" in PurePosixPath(name).parts:
                continue
            with store.files.fetched(namespace, f"{scripts.path}/{name}") as file:
                data = file.read_bytes()
            total += len(data)
            if total > store.settings.max_scripts_bytes:
                limit = store.settings.max_scripts_bytes
                raise InvalidField("scripts.path", f"the folder holds more than {limit} bytes")
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), data)
    packed = buffer.getvalue()
    return SentScripts(
        archive=Blob(digest=put_bytes(store.blobs, packed), size_bytes=len(packed)),
        config_file=scripts.config_file,
        folder=PurePosixPath(scripts.path).name,
    )
