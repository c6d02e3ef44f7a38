"""The first steps of a retraining: its job, made of a template and waited for, and what it registers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from catchment import faults
from catchment.catalog import rows as catalog_rows
from catchment.catalog.made import FORMAT
from catchment.catalog.states import ModelState
from catchment.errors import AlreadyExists, InvalidField, JobStopped, NotFound, RetrainingFailed
from catchment.jobs import lifecycle, references, rows
from catchment.jobs.privacy import keeps_metrics
from catchment.jobs.spec import SERVER_FIELDS, parse_job
from catchment.jobs.states import JobState
from catchment.retraining import metrics, naming
from catchment.retraining.plan import RetrainPlan
from catchment.retraining.waiting import Say, wait_for
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import model_versions

SOURCES = ("model_path", "model_id", "checkpoint_id")
RESTS = (JobState.FAILED, JobState.STOPPED)


def check(store: Store, plan: RetrainPlan) -> None:
    """Refuse a plan whose job could not be made.

    Raises:
        InvalidField: the template is none, the job's specification is wrong or names what is not there, or
            its result could not be compared.
    """
    job = parse_job(store.db.read(lambda tx: body_of(tx, plan, "retrain-00000000")))
    references.check(store, plan.namespace, job, known_checkpoints=())
    if plan.serving is not None and not keeps_metrics(job):
        raise InvalidField(
            "gate.metric",
            "is never known of this job, whose secure_algorithm.metrics is 'none'; leave serving out, "
            "and roll out by hand",
        )


def begin(store: Store, plan: RetrainPlan, run: str) -> str:
    """Make the run's job and start it, unless that was done; its id.

    A job that has failed or was stopped goes on: whoever runs a retraining again wants that.

    Raises:
        InvalidField: the template is none, or the job's specification is wrong.
        Refused: the job cannot be made or started.
    """
    job_id = naming.child(run)
    row = store.db.read(lambda tx: rows.find(tx, plan.namespace, job_id))
    if row is None:
        body = store.db.read(lambda tx: body_of(tx, plan, job_id))
        try:
            lifecycle.create_job(store, plan.namespace, body)
        except AlreadyExists:
            row = store.db.read(lambda tx: rows.require(tx, plan.namespace, job_id))
    faults.reach("after_job_created")
    if row is None or row.state in RESTS or (row.state == JobState.QUEUED and row.queued_at is None):
        lifecycle.request_start(store, plan.namespace, job_id)
    return job_id


def body_of(tx: Transaction, plan: RetrainPlan, job_id: str) -> dict[str, Any]:
    """The job's specification.

    Raises:
        InvalidField: the template is none.
    """
    if plan.job.spec is not None:
        body = {key: value for key, value in plan.job.spec.items() if key not in SERVER_FIELDS}
    else:
        body = _copied(tx, plan.namespace, str(plan.job.template))
    if plan.job.rounds is not None:
        hyper = body.get("hyper_parameters") or {}
        body["hyper_parameters"] = {**hyper, "max_round_num": plan.job.rounds}
    if source := _source(tx, plan):
        body = {key: value for key, value in body.items() if key not in SOURCES} | {"model_id": source}
    name = plan.register_as.name
    version = naming.next_version(tx, plan.namespace, name, plan.register_as.version)
    register = {"name": name, "version": version, "checkpoint": plan.register_as.checkpoint}
    return {**body, "id": job_id, "register": register}


def _copied(tx: Transaction, namespace: str, template: str) -> dict[str, Any]:
    row = rows.find(tx, namespace, template)
    if row is None:
        raise InvalidField("job.template", f"there is no job {template!r} in namespace {namespace!r}")
    # Not the seed: another run draws its own.
    body = {key: value for key, value in row.spec.items() if key != "seed"}
    own = catalog_rows.of_checkpoint(tx, row.uid, str(body.get("checkpoint_id")))
    if own is not None:  # a number means the job's own checkpoint; the new job knows it by its id
        body["checkpoint_id"] = own
    return body


def _source(tx: Transaction, plan: RetrainPlan) -> str | None:
    """Id of the version that the training begins with; None: as the specification says."""
    if plan.job.begin_with == "specification":
        return None
    if plan.job.begin_with == "serving":
        serves = metrics.serving_version(tx, plan)
        origin = metrics.origin(tx, serves) if serves is not None else None
        return origin.id if origin is not None and origin.state == ModelState.READY else None
    newest = [row for row in _registered(tx, plan) if row.state == ModelState.READY]
    return str(newest[0].id) if newest else None


def _registered(tx: Transaction, plan: RetrainPlan) -> list[Row[Any]]:
    """The versions that jobs have registered under the model's name, newest first."""
    mine = (
        (model_versions.c.namespace == plan.namespace)
        & (model_versions.c.name == plan.register_as.name)
        & (model_versions.c.format == FORMAT)
        & model_versions.c.job_uid.is_(None)
    )
    ordered = select(model_versions).where(mine).order_by(model_versions.c.created_at.desc())
    return [row for row in tx.execute(ordered) if row.lineage.get("kind") == "job"]


def await_registered(store: Store, plan: RetrainPlan, run: str, say: Say) -> str:
    """Wait until the run's job has finished; the id of the version that it registered.

    Raises:
        RetrainingFailed: the job failed or was deleted, took too long, or has registered nothing.
        JobStopped: it was stopped.
    """
    job_id = naming.child(run)
    row = store.db.read(lambda tx: rows.require(tx, plan.namespace, job_id))

    def look() -> Row[Any] | str:
        try:
            seen = store.db.read(lambda tx: rows.by_uid(tx, row.uid))
        except NotFound:
            raise RetrainingFailed(f"job {job_id} was deleted") from None
        match seen.state:
            case JobState.FINISHED:
                return seen
            case JobState.FAILED:
                raise RetrainingFailed(f"job {job_id} failed: {seen.reason}")
            case JobState.STOPPING | JobState.STOPPED | JobState.DELETING:
                raise JobStopped(f"job {job_id} is {seen.state}")
        return f"{seen.state}, {seen.progress} %" + (f": {seen.reason}" if seen.reason else "")

    wait_for(store, rows.topic(row.uid), look, plan.job.wait_s, f"job {job_id}", say)
    found = store.db.read(lambda tx: registered(tx, plan, job_id))
    if found is None:
        raise RetrainingFailed(f"job {job_id} has finished and registered nothing: it saved no checkpoint")
    return str(found.id)


def registered(tx: Transaction, plan: RetrainPlan, job_id: str) -> Row[Any] | None:
    """The newest version that a job has registered; None before it has."""
    return next((row for row in _registered(tx, plan) if row.lineage["job"]["id"] == job_id), None)
