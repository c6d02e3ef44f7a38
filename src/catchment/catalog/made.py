"""Versions that a job makes: its checkpoints, and the one that its result is registered as."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Row, insert, select

from catchment.catalog import audit, rows, sources
from catchment.catalog.audit import Actor
from catchment.catalog.rows import VersionFile
from catchment.errors import InvalidField
from catchment.jobs import rows as job_rows
from catchment.jobs.spec import Job
from catchment.store.database import Transaction
from catchment.store.schema import checkpoints, model_versions, works

FORMAT = "Safetensors"


def insert_ready(tx: Transaction, files: list[VersionFile], actor: Actor, **values: Any) -> str:
    """A version whose blobs are there, held by the same transaction; its id.

    Args:
        tx: the transaction.
        files: the version's files.
        actor: who made it.
        values: columns: namespace, name, version, runtime, lineage at least.
    """
    made = {
        "id": uuid.uuid4().hex,
        "description": "",
        "created_at": tx.now,
        "updated_at": tx.now,
        "touched_at": tx.now,
        "file_name": files[0].path if len(files) == 1 else None,
        **rows.ready_values(files),
    }
    tx.execute(insert(model_versions).values(**made | values))
    rows.set_files(tx, made["id"], files)
    row = rows.by_id(tx, made["id"])
    audit.write(tx, row, "create", actor, **row.lineage)
    audit.write(tx, row, "ready", actor, digest=row.digest)
    return str(made["id"])


def insert_checkpoint(
    tx: Transaction, job: Row[Any], number: int, round_number: int, file: VersionFile, accuracy: float | None
) -> str:
    """A job's checkpoint as a version of the model that bears the job's id; its id."""
    spec = job_rows.spec_of(job)
    return insert_ready(
        tx,
        [file],
        Actor(),
        namespace=job.namespace,
        name=job.id,
        version=f"checkpoint_v{number}",
        runtime=spec.runtime,
        format=FORMAT,
        description=f"round {round_number} of run {job.run} of job {job.id}",
        lineage=_lineage(tx, job, "checkpoint", round_number, accuracy),
        parent=sources.parent_of(tx, job.uid, spec.model_source),
        job_uid=job.uid,
    )


def _lineage(
    tx: Transaction, job: Row[Any], kind: str, round_number: int, accuracy: float | None
) -> dict[str, Any]:
    counted = (works.c.job_uid == job.uid) & (works.c.run == job.run) & (works.c.counted_in <= round_number)
    sites = tx.execute(select(works.c.site).where(counted).distinct().order_by(works.c.site)).scalars()
    made_by = {"namespace": job.namespace, "id": job.id, "run": job.run, "round": round_number}
    return {"kind": kind, "job": made_by, "sites": list(sites), "accuracy": accuracy}


def chosen_checkpoint(tx: Transaction, job: Row[Any], spec: Job) -> Row[Any] | None:
    """The checkpoint of the current run that is to be registered: the last one, or the most accurate."""
    mine = (checkpoints.c.job_uid == job.uid) & (checkpoints.c.run == job.run)
    saved = tx.execute(select(checkpoints).where(mine).order_by(checkpoints.c.number)).all()
    if not saved:
        return None
    if spec.register_ is not None and spec.register_.checkpoint == "best":
        told = [row for row in saved if row.accuracy is not None]
        return max(told, key=lambda row: (row.accuracy, row.number)) if told else saved[-1]
    return saved[-1]


def insert_result(
    tx: Transaction, job: Row[Any], spec: Job, chosen: Row[Any], file: VersionFile
) -> tuple[str, str]:
    """The version that a finished job's result is registered as: its id, and its name.

    A job that runs again registers again: a version of its own, `-run2` and so on behind the name.
    """
    assert spec.register_ is not None  # noqa: S101 - the caller has looked
    asked = spec.register_
    base = asked.version or f"run{job.run}"
    version = _free_version(tx, job, asked.name, base)
    model_id = insert_ready(
        tx,
        [file],
        Actor(),
        namespace=job.namespace,
        name=asked.name,
        version=version,
        runtime=spec.runtime,
        format=FORMAT,
        description=asked.description or f"result of job {job.id}, run {job.run}",
        lineage=_lineage(tx, job, "job", chosen.round, chosen.accuracy),
        parent=rows.of_checkpoint(tx, job.uid, f"checkpoint_v{chosen.number}"),
    )
    return model_id, version


def _free_version(tx: Transaction, job: Row[Any], name: str, base: str) -> str:
    candidates = [base, f"{base}-run{job.run}", *(f"{base}-run{job.run}.{n}" for n in range(2, 1000))]
    return next(each for each in candidates if rows.find(tx, job.namespace, name, each[:128]) is None)[:128]


def check_register(tx: Transaction, namespace: str, job: Job) -> None:
    """Refuse a job whose result could not be registered as it says.

    Raises:
        InvalidField: the version is there and was not made by this job.
    """
    asked = job.register_
    if asked is None or asked.version is None:
        return
    row = rows.find(tx, namespace, asked.name, asked.version)
    if row is not None and (row.lineage.get("job") or {}).get("id") != job.id:
        raise InvalidField(
            "register.version",
            f"model {asked.name!r} has a version {asked.version!r} already; name another one",
        )
