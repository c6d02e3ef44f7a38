"""Bringing a better version into production: the serving is made, or changed, and its rollout waited for."""

from __future__ import annotations

import copy
from typing import Any

from sqlalchemy import Row

from catchment import faults
from catchment.catalog import rows as catalog_rows
from catchment.catalog.audit import Actor
from catchment.errors import AlreadyExists, JobStopped, NotFound, RetrainingFailed, WrongState
from catchment.retraining import metrics, naming
from catchment.retraining.plan import RetrainPlan, RolloutTarget
from catchment.retraining.waiting import Say, wait_for
from catchment.serving import manager
from catchment.serving import rows as serving_rows
from catchment.serving.around import ANNOTATION
from catchment.serving.states import ENDED, RolloutPhase
from catchment.store import Store

PREDICTOR = "default"
"""Of a serving that is made."""
STOP_WORDS = ("stop was asked for", "rollback was asked for", "rejected by", "its flow run was cancelled")


def roll_out(store: Store, plan: RetrainPlan, run: str, model_id: str, say: Say) -> int:
    """Roll a version out, unless that was done, and wait for the end; the rollout's number.

    Raises:
        RetrainingFailed: the rollout was rolled back or failed, or took too long.
        JobStopped: somebody stopped it.
        InvalidField: the serving has several predictors, and the plan names none of them.
    """
    wanted = plan.serving
    if wanted is None:
        raise RetrainingFailed("the plan names no serving")
    number = store.db.read(lambda tx: metrics.made_by(tx, plan, run))
    if number is None:
        number = _begin(store, plan, wanted, run, model_id, say)
    faults.reach("after_rollout_made")
    return _await_end(store, plan, wanted, number, say)


def _begin(store: Store, plan: RetrainPlan, wanted: RolloutTarget, run: str, model_id: str, say: Say) -> int:
    """Make the serving, or change it once nobody else's rollout of it is under way."""
    actor = Actor(naming.child(run))
    version = store.db.read(lambda tx: catalog_rows.by_id(tx, model_id))
    reference = f"{version.namespace}/{version.name}:{version.version}"
    topic = ""

    def look() -> int | str:
        row = store.db.read(lambda tx: serving_rows.find(tx, plan.namespace, wanted.name))
        try:
            if row is None:
                manager.create(store, plan.namespace, new(wanted, reference), actor)
            else:
                manager.update(store, plan.namespace, wanted.name, changed(row, wanted, reference), actor)
        except (WrongState, AlreadyExists) as error:
            return str(error)  # somebody else's rollout, or a change between our reading and writing
        number = store.db.read(lambda tx: metrics.made_by(tx, plan, run))
        return number if number is not None else "the serving did not change"

    if (there := store.db.read(lambda tx: serving_rows.find(tx, plan.namespace, wanted.name))) is not None:
        topic = serving_rows.topic(there.uid)
    return wait_for(store, topic, look, wanted.wait_s, f"serving {wanted.name}", say)


def new(wanted: RolloutTarget, reference: str) -> dict[str, Any]:
    """The short form of a serving that is not there."""
    canary = wanted.canary.model_dump(mode="json", exclude_defaults=True) if wanted.canary else {}
    return {
        "name": wanted.name,
        "model": reference,
        "replicas": wanted.replicas,
        **({"backend": wanted.backend} if wanted.backend else {}),
        **({"canary": canary} if canary else {}),
    }


def changed(row: Row[Any], wanted: RolloutTarget, reference: str) -> dict[str, Any]:
    """The serving's own body with the version in it; refused where it was changed since."""
    spec = copy.deepcopy(row.body["spec"])
    annotations = dict(row.annotations)
    names = [str(each.get("name") or each["graph"]["name"]).lower() for each in spec["predictors"]]
    graph = spec["predictors"][metrics.chosen(names, wanted.predictor)]["graph"]
    graph["modelUri"] = reference
    # Of the version that was there; the new one says its own.
    graph["parameters"] = [each for each in graph.get("parameters") or [] if each.get("name") != "format"]
    if wanted.canary is not None:
        annotations[ANNOTATION + "canary"] = wanted.canary.model_dump_json(exclude_defaults=True)
    metadata = {
        "name": row.name,
        "labels": row.labels,
        "annotations": annotations,
        "resourceVersion": str(row.generation),
    }
    return {**row.body, "metadata": metadata, "spec": spec}


def _await_end(store: Store, plan: RetrainPlan, wanted: RolloutTarget, number: int, say: Say) -> int:
    row = store.db.read(lambda tx: serving_rows.require(tx, plan.namespace, wanted.name))

    def look() -> Row[Any] | str:
        try:
            seen = store.db.read(lambda tx: serving_rows.rollout(tx, row.uid, number))
        except NotFound:
            raise RetrainingFailed(f"serving {wanted.name} was deleted") from None
        return seen if seen.phase in ENDED else f"{seen.phase}: {seen.message}"

    what = f"rollout {number} of {wanted.name}"
    ended = wait_for(store, serving_rows.topic(row.uid), look, wanted.wait_s, what, say)
    if ended.phase == RolloutPhase.PROMOTED:
        return number
    if any(words in ended.message for words in STOP_WORDS):
        raise JobStopped(f"{what} was stopped: {ended.message}")
    raise RetrainingFailed(f"{what} is {ended.phase}: {ended.message}")
