"""From a job's file to a job in the store that simulated clients can run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catchment.errors import AlreadyExists, InvalidField, PathRefused
from catchment.jobs import lifecycle, rows
from catchment.jobs.secure import is_secure
from catchment.jobs.states import BUSY, JobState
from catchment.simulation.data import DataParts
from catchment.store import Store
from catchment.store.database import Transaction

DROPPED = ("clients", "ssl")
"""Fields that speak of real sites: which ones, and how they connect."""


def check_simulated(store: Store, namespace: str, job_id: str, data: Mapping[str, str]) -> None:
    """Pass when simulated clients can run the job.

    Raises:
        NotFound: no such job.
        InvalidField: it names sites or entries of its own, or a data set has no parts.
    """
    job = rows.spec_of(store.db.read(lambda tx: rows.require(tx, namespace, job_id)))
    for field in DROPPED:
        if getattr(job, field) is not None:
            raise InvalidField(field, "speaks of real sites; leave it out of a job that is simulated")
    if job.scripts is None:
        raise InvalidField(
            "task_entry", "is a script of real sites; a job that is simulated needs scripts instead"
        )
    if is_secure(job):
        raise InvalidField(
            "secure_algorithm", "SSA is a conversation between real sites; leave it out of a simulation"
        )
    DataParts(data).check(job.dataset_names)


def read_job_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The job in a JSON file, without fields that speak of real sites; which of them it had.

    Raises:
        InvalidField: the file cannot be read, or holds no JSON object.
    """
    try:
        body = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidField("JOB", f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InvalidField("JOB", f"{path} is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidField("JOB", f"{path} holds no JSON object")
    dropped = [field for field in DROPPED if field in body]
    return {key: value for key, value in body.items() if key not in DROPPED}, dropped


def bring_job(store: Store, namespace: str, body: dict[str, Any], root: Path) -> None:
    """Copy the files that a job names from `root` into its namespace, and create or renew the job.

    Raises:
        Refused: a field of the job is wrong, or the job runs.
    """
    for path in _named(body):
        _copy(store, namespace, root, path)
    try:
        lifecycle.create_job(store, namespace, body)
    except AlreadyExists:
        lifecycle.update_job(store, namespace, str(body.get("id")), body)


def release_lost(store: Store, namespace: str, job_id: str) -> None:
    """End a job whose simulation died with its process, so that it can go on; nobody else may drive it."""

    def step(tx: Transaction) -> None:
        row = rows.find(tx, namespace, job_id)
        if row is not None and row.state in BUSY:
            rows.cancel_open_works(tx, row.uid, "the simulation was lost")
            rows.end(tx, row.uid, JobState.FAILED, "its simulation was lost with its process")

    store.db.write(step)


def _named(body: Mapping[str, Any]) -> list[str]:
    """Paths of files and folders that a job names, as far as it is well-formed."""
    scripts, extenders = body.get("scripts"), body.get("extenders") or body.get("extender")
    named = [
        body.get("model_path"),
        scripts.get("path") if isinstance(scripts, dict) else None,
        extenders.get("script_path") if isinstance(extenders, dict) else None,
    ]
    return [path for path in named if isinstance(path, str) and path]


def _copy(store: Store, namespace: str, root: Path, path: str) -> None:
    source = (root / path).resolve()
    if not source.is_relative_to(root.resolve()):
        raise PathRefused(f"{path!r} leads out of {root}")
    files = [source] if source.is_file() else [part for part in source.rglob("*") if part.is_file()]
    for file in files:
        if "__pycache__" not in file.parts:
            store.files.write_file(namespace, str(file.relative_to(root.resolve())), file)
