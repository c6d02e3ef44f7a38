"""The store's end of a pod's work: its token, its task and files, what it brings."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Row, delete, insert, select

from catchment.catalog.content import Arrived
from catchment.catalog.rows import VersionFile
from catchment.errors import BadArtifact, CatchmentError, InvalidField, NotFound, TooLarge, WrongState
from catchment.formats.extract.result import Extracted
from catchment.jobs import purge
from catchment.model_jobs import converting, files, rows
from catchment.model_jobs.claim import ModelJobClaim, held
from catchment.model_jobs.manager import work_folder
from catchment.model_jobs.states import CONVERT, EXTRACT, PULL, VERIFY, Phase
from catchment.model_jobs.working import Task
from catchment.models.files import plain_name
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_job_files

STEPS = (EXTRACT, CONVERT, VERIFY)
Outcome = dict[str, Any]
"""`{"found": ...}` or `{"problem": ...}`, as `working` writes them."""


def assignment(store: Store, uid: str, step: str) -> tuple[Task, list[VersionFile]]:
    """What a pod is to do, and with which files.

    Raises:
        NotFound: no such job or step.
        WrongState: nobody waits for it (any more), or the source was changed.
    """

    def look(tx: Transaction) -> tuple[Task, list[VersionFile]]:
        return _assignment(tx, _awaited(tx, uid, step), step)

    return store.db.write(look)


def _assignment(tx: Transaction, job: Row[Any], step: str) -> tuple[Task, list[VersionFile]]:
    if step == CONVERT:
        return converting.task_of(tx, job), files.source_files(tx, job)
    if CONVERT in job.steps:
        return Task("extract", job.steps[CONVERT]["format"]), files.made_files(tx, job.uid)
    return Task("extract", job.steps[PULL]["format"]), files.source_files(tx, job)


def task(store: Store, claim: ModelJobClaim, step: str) -> Task:
    """The same for the flow that waits for it."""
    return store.db.write(lambda tx: _assignment(tx, held(tx, claim), step))[0]


def _awaited(tx: Transaction, uid: str, step: str) -> Row[Any]:
    job = rows.by_uid(tx, uid, lock=True)
    if step not in STEPS:
        raise NotFound(f"ModelJobs have no step {step!r} that a pod works on")
    live = job.phase in (Phase.PENDING, Phase.RUNNING) and not job.stop_requested
    if not live or step in job.steps or PULL not in job.steps:
        raise WrongState(f"nobody waits for step {step!r} of the ModelJob; it is {job.phase}")
    return job


def begin(store: Store, claim: ModelJobClaim, step: str) -> None:
    """Forget what an earlier try of the step has brought."""

    def clear(tx: Transaction) -> set[str]:
        job = held(tx, claim)
        rows.change(tx, claim.uid, steps=_without(job, step))
        if step != CONVERT:
            return set()
        mine = model_job_files.c.job_uid == claim.uid
        digests = set(tx.execute(select(model_job_files.c.digest).where(mine)).scalars())
        tx.execute(delete(model_job_files).where(mine))
        return digests

    purge.delete_unreferenced(store, store.db.write(clear))


def _without(job: Row[Any], step: str) -> dict[str, Any]:
    return {name: found for name, found in job.steps.items() if name != rows.delivered(step)}


def staging_file(store: Store, uid: str) -> Path:
    """A name for a file that arrives, on the file system of the blobs."""
    return work_folder(store, uid) / f"arriving-{secrets.token_hex(8)}"


def keep_file(store: Store, uid: str, step: str, path: str, arrived: Arrived) -> None:
    """Make a file that a conversion's pod has brought a blob of the job.

    Raises:
        NotFound, WrongState: as `assignment`.
        InvalidField: the path is none that a model's file can have.
        TooLarge: it is more than a model may be.
    """
    try:
        name = plain_name(path)
    except BadArtifact as error:
        raise InvalidField("path", str(error)) from None
    if step != CONVERT or name != path:
        raise InvalidField("path", f"{path!r} is no plain path of a converted file")
    if arrived.file.size_bytes > store.settings.max_model_bytes:
        raise TooLarge(f"a model may have {store.settings.max_model_bytes} bytes")
    digest = arrived.file.digest
    store.blobs.prepare(arrived.staged, digest)

    def write(tx: Transaction) -> None:
        purge.lock_blobs(tx, [digest], shared=True)
        if arrived.staged.exists():
            store.blobs.put_file(arrived.staged, digest)
        purge.hold_blobs(store, tx, [digest])
        _awaited(tx, uid, step)
        place = (model_job_files.c.job_uid == uid) & (model_job_files.c.path == name)
        tx.execute(delete(model_job_files).where(place))
        values = {"job_uid": uid, "path": name, "digest": digest, "size_bytes": arrived.file.size_bytes}
        tx.execute(insert(model_job_files).values(**values))

    try:
        store.db.write(write)
    except CatchmentError:
        purge.delete_unreferenced(store, {digest})
        raise


def deliver(store: Store, uid: str, step: str, outcome: Mapping[str, Any]) -> None:
    """Take a pod's outcome; the flow that waits for it hears of it.

    Raises:
        NotFound, WrongState: as `assignment`.
        InvalidField: it is no outcome of this step.
    """
    checked = _checked(step, outcome)

    def write(tx: Transaction) -> None:
        job = _awaited(tx, uid, step)
        if "found" in checked and step == CONVERT and not files.made_files(tx, uid):
            raise InvalidField("found", "a conversion brings its files before its outcome")
        rows.change(tx, uid, steps={**_without(job, step), rows.delivered(step): checked})

    store.db.write(write)


def _checked(step: str, outcome: Mapping[str, Any]) -> Outcome:
    problem, found = outcome.get("problem"), outcome.get("found")
    if len(outcome) == 1 and isinstance(problem, dict) and isinstance(problem.get("message"), str):
        return {"problem": problem}
    if len(outcome) != 1 or not isinstance(found, dict):
        raise InvalidField("outcome", "must be an object with found or problem")
    try:
        if step == CONVERT:
            wanted = {key: found[key] for key in _CONVERTED}
            if wanted["report"]["passed"] is not True or wanted["report"]["problems"]:
                raise InvalidField("found.report", "says that the gate did not pass")
            return {"found": wanted}
        return {"found": Extracted.from_json(found).to_json()}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InvalidField("found", f"is no outcome of step {step!r}: {error}") from None


_CONVERTED = ("backend", "format", "report", "signature", "passedOver", "notIsolated", "log")


def outcome(store: Store, claim: ModelJobClaim, step: str) -> Outcome | None:
    """What a pod has brought for a step, if it has. Raises JobStopped, LeaseLost, NotFound as `held`."""
    found: Outcome | None = store.db.write(lambda tx: held(tx, claim).steps.get(rows.delivered(step)))
    return found
