"""A finished job's result as a model version of its own, in the transaction that ends the job."""

from __future__ import annotations

from catchment.catalog import made
from catchment.catalog.rows import VersionFile
from catchment.jobs import log, purge, rows
from catchment.rounds.claim import Claim, held
from catchment.store import Store
from catchment.store.database import Transaction


def register_result(store: Store, tx: Transaction, claim: Claim) -> None:
    """Register the run's final or best checkpoint, where the job says `register`.

    Raises:
        JobStopped, LeaseLost: as `held`.
        TransferError: the checkpoint's bytes were just removed; the checkpoint was deleted.
    """
    row = held(tx, claim, lock=False)
    job = rows.spec_of(row)
    chosen = made.chosen_checkpoint(tx, row, job) if job.register_ is not None else None
    if job.register_ is None or chosen is None:
        return
    purge.hold_blobs(store, tx, [chosen.digest])
    file = VersionFile(f"{job.register_.name}.safetensors", chosen.digest, store.blobs.size(chosen.digest))
    row = held(tx, claim)
    _, version = made.insert_result(tx, row, job, chosen, file)
    path = f"model-versions/{job.register_.name}/{version}/{file.path}"
    store.files.show_file(claim.namespace, path, store.blobs.local_path(chosen.digest))
    told = f"registered as version {version} of model {job.register_.name}"
    log.write(tx, claim.uid, log.Line(told, run=claim.run, round=chosen.round))
