"""What is known to fail later is refused before a run begins: hours of training come between."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Row

from catchment.errors import InvalidField, SetupError
from catchment.jobs import namespaces
from catchment.jobs import rows as job_rows
from catchment.retraining import converting, metrics, naming, rolling, training
from catchment.retraining.plan import RetrainPlan, RolloutTarget
from catchment.retraining.plan import check as check_fields
from catchment.serving import resolving
from catchment.serving import rows as serving_rows
from catchment.serving.backends import open_backend
from catchment.serving.spec import NewServing, parse
from catchment.serving.workload import ServingKey
from catchment.store import Store

_VERSION = "v1"
"""Stands for the version that there will be."""
_OF_MADE = ("replicas", "backend", "canary")
"""Fields of a serving that is made which a plan has under the same names."""


def check(store: Store, plan: RetrainPlan) -> None:
    """Refuse a plan that a later step would refuse, by what is known now.

    Raises:
        InvalidField: the field of the plan, or of its job's specification.
        NotFound: no such namespace.
    """
    check_fields(plan)
    namespaces.get(store, plan.namespace)
    training.check(store, plan)
    converting.check(store, plan)
    if plan.serving is not None:
        _check_serving(store, plan, plan.serving)


def check_new(store: Store, plan: RetrainPlan, run: str) -> None:
    """As `check`, while the run has made nothing; after that its steps say themselves what has become wrong.

    Raises:
        InvalidField, NotFound: as `check`.
    """
    job_id = naming.child(run)
    if store.db.read(lambda tx: job_rows.find(tx, plan.namespace, job_id)) is None:
        check(store, plan)


def _check_serving(store: Store, plan: RetrainPlan, wanted: RolloutTarget) -> None:
    """Refuse a rollout that could not be made, or a comparison that no version could pass."""
    row = store.db.read(lambda tx: serving_rows.find(tx, plan.namespace, wanted.name))
    reference = f"{plan.namespace}/{plan.register_as.name}:{_VERSION}"
    if row is None or row.deleting:  # it is made, once the old one is gone
        _check_made(store, plan, wanted, rolling.new(wanted, reference))
        return
    body = rolling.changed(row, wanted, reference)
    try:
        made = parse(body, plan.namespace, row.backend, wanted.name)
        _check_backend(store, plan, wanted, made)
    except (InvalidField, SetupError) as error:
        raise InvalidField("serving.name", f"{wanted.name!r} cannot take a new version: {error}") from None
    _check_metrics(store, plan, row, made)


def _check_made(store: Store, plan: RetrainPlan, wanted: RolloutTarget, body: dict[str, Any]) -> None:
    if wanted.predictor not in (None, rolling.PREDICTOR):
        problem = f"there is no serving {wanted.name!r}, and one that is made has {rolling.PREDICTOR!r} only"
        raise InvalidField("serving.predictor", problem)
    try:
        made = parse(body, plan.namespace, store.settings.serving_backend)
        _check_backend(store, plan, wanted, made)
    except InvalidField as error:
        if error.field.partition(".")[0] in _OF_MADE:
            raise InvalidField(f"serving.{error.field}", error.problem) from None
        raise InvalidField("serving", str(error)) from None
    except SetupError as error:
        named = wanted.backend or f"{store.settings.serving_backend}, this server's choice,"
        raise InvalidField("serving.backend", f"{named} cannot be used: {error}") from None


def _check_backend(store: Store, plan: RetrainPlan, wanted: RolloutTarget, made: NewServing) -> None:
    """Ask the backend, with the version whose graph the weights go into in place of the new one.

    Raises:
        InvalidField: it cannot run that.
        SetupError: this server does not have the backend.
    """
    backend = open_backend(store, made.backend)
    graph = store.db.read(lambda tx: converting.graph_of(tx, plan))
    if not resolving.signature_of(graph).get("inputs"):
        return  # some backends ask for it, and only the ModelJob will find it out
    predictors = made.spec.predictors
    predictor = predictors[metrics.chosen([each.name for each in predictors], wanted.predictor)]
    key = ServingKey(plan.namespace, made.name, "")
    backend.check(resolving.described(graph, key, 1, made.spec, predictor))


def _check_metrics(store: Store, plan: RetrainPlan, row: Row[Any], made: NewServing) -> None:
    """What serves, and what the canary compares, must have the metric that a new version will have."""
    serves = store.db.read(lambda tx: metrics.serving_version(tx, plan))
    if serves is None or row.rolling is not None:
        return  # another version may serve by then
    named, asked = plan.gate.metric, made.spec.canary.metric
    if asked is not None and asked.name != named:
        problem = f"is {named!r}, and new versions have no other; the canary compares {asked.name!r}"
        raise InvalidField("gate.metric", problem)
    known = store.db.read(lambda tx: metrics.evaluated(tx, serves, plan.gate))
    if plan.gate.baseline is None and (known is None or not math.isfinite(known)):
        told = f"nothing is known of {named} of {serves.namespace}/{serves.name}:{serves.version}"
        raise InvalidField("gate.baseline", f"is required: {told}, which serves; say what it is taken for")
