"""The beginning of a run: weights, scripts, extenders become blobs, so that nothing changes under a run."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePosixPath
from typing import Any

from catchment.archives import ZIP_TIME
from catchment.catalog import sources
from catchment.errors import InvalidField, NotFound
from catchment.extenders import script
from catchment.jobs import log, purge, rows, secure, ssl_folder
from catchment.jobs.spec import Job, ScriptsConfig
from catchment.models.initial import import_weights
from catchment.models.tensors import TensorFile
from catchment.rounds.aggregation import STRATEGY_KEY
from catchment.rounds.claim import Claim, held
from catchment.rounds.select import begin_ahead
from catchment.store import Store
from catchment.store.blobs import keep_staged, new_staged_file, put_bytes
from catchment.store.database import Transaction
from catchment.strategies import plan
from catchment.wire.messages import Blob, SentScripts


def begin_run(store: Store, claim: Claim) -> str:
    """`prepare_run`, then the first round at once where its sites are there; the weights' digest."""
    digest = prepare_run(store, claim)
    begin_ahead(store, claim)
    return digest


def prepare_run(store: Store, claim: Claim) -> str:
    """Make sure that the run has initial weights and the start its scripts; the weights' digest.

    Raises:
        InvalidField: the model file, the scripts or the `ssl` folder cannot be used; names the job's field.
        BadTensors: the model file holds no usable tensors.
        TransferError: another job has just removed the same bytes; trying again helps.
        JobStopped, LeaseLost: as `held`.
    """
    row = store.db.read(lambda tx: held(tx, claim, lock=False))
    job = rows.spec_of(row)
    values: dict[str, Any] = {"sent_scripts": None, "trusted_roots": None}
    if job.ssl is not None:
        values["trusted_roots"] = ssl_folder.trusted_roots(store, claim.namespace, job.ssl)
    # A lost run that goes on keeps the extenders that its start has packed.
    before = row.extender
    if job.extender_functions and (not before or before["starts"] != row.starts):
        values["extender"] = pack_extenders(store, claim.namespace, job, row.starts).model_dump()
    if job.scripts is not None:
        values["sent_scripts"] = pack_scripts(store, claim.namespace, job.scripts).model_dump()
    digest: str | None = row.initial_weights
    if digest is None or not store.blobs.exists(digest):
        digest = import_initial_weights(store, claim, job)
        values["initial_weights"] = digest
        values["initial_state"] = initial_state(store, claim, job)
    with TensorFile.open(store.blobs.local_path(digest)) as weights:
        plan.check_model(job, weights.signature)
        secure.check_model(job, weights.signature)

    def step(tx: Transaction) -> None:
        purge.hold_blobs(store, tx, _digests(values))
        held(tx, claim)
        lines = [log.Line(words, "warning", run=claim.run) for words in secure.warnings_of(job)]
        log.write(tx, claim.uid, *lines)
        rows.change(tx, claim.uid, **values)
        if "initial_weights" in values:
            told = "initial weights read from {} {!r}".format(*job.model_source)
            log.write(tx, claim.uid, log.Line(told, run=claim.run))

    store.db.write(step)
    if before and "extender" in values:
        purge.delete_unreferenced(store, {before["archive"]})
    return digest


def _digests(values: dict[str, Any]) -> list[str | None]:
    """Blobs that the columns refer to."""
    scripts, extender = values["sent_scripts"], values.get("extender")
    return [
        values.get("initial_weights"),
        scripts["archive"]["digest"] if scripts else None,
        extender["archive"] if extender else None,
    ]


def import_initial_weights(store: Store, claim: Claim, job: Job) -> str:
    """Read the job's model source into a blob; its digest."""
    field, value = job.model_source
    staged = new_staged_file(store.blobs)
    try:
        path = _source_path(store, claim, field, value)
        if path is None:
            sources.import_version(store, claim.namespace, job, staged)
        else:
            with store.files.fetched(claim.namespace, path) as source:
                import_weights(source, staged, job.runtime)
    except NotFound as error:
        raise InvalidField(field, str(error)) from error
    return keep_staged(store.blobs, staged)


def _source_path(store: Store, claim: Claim, field: str, value: str) -> str | None:
    """The file in the namespace's folder that a model source means; None for a version in the registry."""
    if field == "model_path":
        return value
    own = store.db.read(lambda tx: purge.checkpoint_paths(tx, claim.uid))
    return own.get(value) if field == "checkpoint_id" else None


def initial_state(store: Store, claim: Claim, job: Job) -> str | None:
    """Digest of the strategy's state that the run's checkpoint was saved with, if it can be gone on from.

    It cannot where the sites keep a state too (SCAFFOLD, FedDC): they begin a run anew, and a server that
    did not would add to the weights what no site has any more.
    """
    field, value = job.model_source
    strategy = plan.strategy_of(job)
    if field != "checkpoint_id" or strategy.stateful_clients:
        return None
    if value in store.db.read(lambda tx: purge.checkpoint_paths(tx, claim.uid)):
        digest = store.db.read(lambda tx: purge.checkpoint_states(tx, claim.uid)).get(value)
    else:
        digest = store.db.read(lambda tx: sources.checkpoint_state(tx, value))
    if digest is None or not store.blobs.exists(digest):
        return None
    with TensorFile.open(store.blobs.local_path(digest)) as state:
        return digest if state.metadata.get(STRATEGY_KEY) == strategy.name else None


def pack_scripts(store: Store, namespace: str, scripts: ScriptsConfig) -> SentScripts:
    """The script folder as a blob: a zip whose bytes depend on names and contents alone.

    Raises:
        InvalidField: the folder is empty, too large, or lacks the configuration file.
    """
    names = store.files.list_files(namespace, scripts.path)
    if (config_file := str(PurePosixPath(scripts.config_file))) not in names:
        raise InvalidField(
            "scripts.config_file", f"{scripts.config_file!r} is not in folder {scripts.path!r}"
        )
    return SentScripts(
        archive=_packed(store, namespace, scripts.path, names, "scripts.path"),
        config_file=config_file,
        folder=PurePosixPath(scripts.path).name,
    )


def pack_extenders(store: Store, namespace: str, job: Job, starts: int) -> script.Packed:
    """The extenders' folder, or their file alone, as a blob, packed like scripts.

    Raises:
        InvalidField: the script is not there or cannot be used, or its folder is too large.
    """
    if job.extenders is None:
        raise InvalidField("extenders", "the job has none")
    script.check(store, namespace, job.extenders)
    found = script.locate(store, namespace, job.extenders)
    folder = found.folder or str(PurePosixPath(found.path).parent)
    names = store.files.list_files(namespace, found.folder) if found.folder else [found.entry]
    blob = _packed(store, namespace, folder, names, "extenders.script_path")
    return script.Packed(archive=blob.digest, entry=found.entry, starts=starts)


def _packed(store: Store, namespace: str, folder: str, names: list[str], field: str) -> Blob:
    buffer, total = io.BytesIO(), 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            if "__pycache__" in PurePosixPath(name).parts:
                continue
            with store.files.fetched(namespace, f"{folder}/{name}") as file:
                total += file.stat().st_size
                if total > store.settings.max_scripts_bytes:
                    limit = store.settings.max_scripts_bytes
                    raise InvalidField(field, f"the folder holds more than {limit} bytes")
                data = file.read_bytes()
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), data)
    packed = buffer.getvalue()
    return Blob(digest=put_bytes(store.blobs, packed), size_bytes=len(packed))
