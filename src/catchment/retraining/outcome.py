"""How a retraining ended, and what it has made so far."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from catchment.catalog import rows as catalog_rows
from catchment.errors import NotFound
from catchment.jobs import rows as job_rows
from catchment.model_jobs import rows as model_job_rows
from catchment.retraining import metrics, naming, training
from catchment.retraining.plan import RetrainPlan
from catchment.serving import rows as serving_rows
from catchment.serving import views as serving_views
from catchment.store import Store
from catchment.store.database import Transaction


@dataclass(frozen=True)
class Retrained:
    """What happened.

    Attributes:
        outcome: `registered` where no rollout was wanted, `kept` where the new version is no better.
        reason: in a sentence.
        job: id of the job that trained.
        version: reference of the version that it registered.
        served: reference of the version that was made of it for serving; None without a conversion.
        verdict: what the gate said; None where nobody asked it.
        rollout: number of the serving's rollout.
    """

    outcome: Literal["registered", "kept", "rolled out"]
    reason: str
    job: str
    version: str
    served: str | None = None
    verdict: dict[str, Any] | None = None
    rollout: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As a JSON value."""
        return asdict(self)


def reference(store: Store, model_id: str) -> str:
    """A version as `namespace/name:version`. Raises NotFound."""
    row = store.db.read(lambda tx: catalog_rows.by_id(tx, model_id))
    return f"{row.namespace}/{row.name}:{row.version}"


def steps_of(store: Store, plan: RetrainPlan, run: str) -> dict[str, Any]:
    """What a run has made, as the store shows it now: its job, version, ModelJob and rollout."""

    def step(tx: Transaction) -> dict[str, Any]:
        name = naming.child(run)
        found: dict[str, Any] = {}
        job = job_rows.find(tx, plan.namespace, name)
        if job is not None:
            found["job"] = {"id": name, "state": job.state, "progress": job.progress, "reason": job.reason}
        version = training.registered(tx, plan, name)
        if version is not None:
            found["version"] = f"{version.namespace}/{version.name}:{version.version}"
        work = model_job_rows.find(tx, plan.namespace, name)
        if work is not None:
            found["model_job"] = {"name": name, "phase": work.phase, "message": work.message}
            if work.result_id:
                found["served"] = _named(tx, work.result_id)
        number = metrics.made_by(tx, plan, run)
        if number is not None and plan.serving is not None:
            serving = serving_rows.require(tx, plan.namespace, plan.serving.name)
            shown = serving_views.rollout_view(serving_rows.rollout(tx, serving.uid, number))
            found["rollout"] = {"serving": serving.name} | {
                key: shown[key] for key in ("number", "phase", "message")
            }
        return found

    return store.db.read(step)


def _named(tx: Transaction, model_id: str) -> str | None:
    try:
        row = catalog_rows.by_id(tx, model_id)
    except NotFound:
        return None
    return f"{row.namespace}/{row.name}:{row.version}"
