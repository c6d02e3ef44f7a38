"""What federated evaluation has said of model versions, and which version of a plan's model serves."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from catchment.catalog import rows as catalog_rows
from catchment.errors import InvalidField, NotFound
from catchment.jobs import rows as job_rows
from catchment.jobs.states import RoundState
from catchment.retraining import naming
from catchment.retraining.plan import RetrainGate, RetrainPlan
from catchment.serving import rows as serving_rows
from catchment.serving.resolving import metric_of
from catchment.serving.spec import Metric
from catchment.serving.steps import PROMOTE
from catchment.serving.workload import Workload
from catchment.store.database import Transaction
from catchment.store.schema import rounds, serving_rollouts

GENERATIONS = 50
"""So far a version's ancestors are followed."""


def made_by(tx: Transaction, plan: RetrainPlan, run: str) -> int | None:
    """Number of the rollout that a run has made; None before it has."""
    row = serving_rows.find(tx, plan.namespace, plan.serving.name) if plan.serving else None
    if row is None:
        return None
    mine = select(serving_rollouts).where(serving_rollouts.c.serving_uid == row.uid)
    login = naming.child(run)
    return next((each.number for each in tx.execute(mine) if each.created_by.get("login") == login), None)


def stable(tx: Transaction, plan: RetrainPlan, run: str = "") -> Workload | None:
    """The workload of the plan's predictor that takes the traffic; None before the first rollout.

    With a run, that which took it before the run's own rollout.

    Raises:
        InvalidField: the serving has several predictors, and the plan names none of them.
    """
    row = serving_rows.find(tx, plan.namespace, plan.serving.name) if plan.serving else None
    if row is None or plan.serving is None:
        return None
    number = row.stable
    if run and number is not None and number == made_by(tx, plan, run):
        number = serving_rows.rollout(tx, row.uid, number).steps[PROMOTE]["before"]
    if number is None:
        return None
    found = serving_rows.workloads_of(serving_rows.rollout(tx, row.uid, number))
    return found[chosen([each.predictor for each in found], plan.serving.predictor)]


def chosen(names: list[str], wanted: str | None) -> int:
    """Which of the predictors is meant. Raises InvalidField."""
    if wanted is None and len(names) == 1:
        return 0
    if wanted not in names:
        asked = f"there is no {wanted!r}" if wanted else "the serving has several, name one"
        raise InvalidField("serving.predictor", f"{asked}; it has {', '.join(names)}")
    return names.index(wanted)


def serving_version(tx: Transaction, plan: RetrainPlan, run: str = "") -> Row[Any] | None:
    """The version that serves, or did before the run's own rollout; None where there is none."""
    workload = stable(tx, plan, run)
    try:
        return catalog_rows.by_id(tx, workload.model.model_id) if workload is not None else None
    except NotFound:
        return None


def origin(tx: Transaction, row: Row[Any]) -> Row[Any] | None:
    """The version that a job has made and this one was made of, itself included; None where there is none."""
    for _ in range(GENERATIONS):
        if row.lineage.get("kind") in ("job", "checkpoint"):
            return row
        above = row.parent or (row.lineage.get("source") or {}).get("id")
        try:
            row = catalog_rows.by_id(tx, above or "")
        except NotFound:
            return None
    return None


def evaluated(tx: Transaction, row: Row[Any], gate: RetrainGate) -> float | None:
    """The gate's metric of a version by the evaluations of its job's rounds, else as the version says it."""
    made = origin(tx, row)
    if made is not None and (found := _of_rounds(tx, made.lineage["job"], gate)) is not None:
        return found
    own = metric_of(row, Metric(name=gate.metric))
    if own is None and made is not None and gate.metric == "accuracy":
        own = made.lineage.get("accuracy")
    return own


def _of_rounds(tx: Transaction, job: dict[str, Any], gate: RetrainGate) -> float | None:
    """The mean over the last evaluated rounds up to the one that was registered."""
    found = job_rows.find(tx, job["namespace"], job["id"])
    if found is None:
        return None
    mine = (
        (rounds.c.job_uid == found.uid)
        & (rounds.c.run == job["run"])
        & (rounds.c.number <= job["round"])
        & (rounds.c.state == RoundState.COMMITTED)
    )
    said = tx.execute(select(rounds.c.metrics).where(mine).order_by(rounds.c.number.desc())).scalars()
    values = [
        float(each[gate.metric])
        for each in said
        if each and isinstance(each.get(gate.metric), int | float) and not isinstance(each[gate.metric], bool)
    ][: gate.rounds]
    return sum(values) / len(values) if values else None
