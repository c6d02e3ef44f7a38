"""What a person sees of a retraining in the Prefect UI: both versions' metrics beside each other.

Artifacts are a view. A server that does not take one costs a warning and never a step.
"""

from __future__ import annotations

from typing import Any

from prefect.artifacts import acreate_table_artifact

from catchment.retraining import naming
from catchment.retraining.plan import RetrainPlan
from flows.artifacts import shown


async def show_verdict(plan: RetrainPlan, run: str, verdict: dict[str, Any], served: str) -> None:
    """The version that serves and the new one by the gate's metric, and what follows."""
    rows = [
        {"": "serving", "version": verdict["against"] or "none", verdict["metric"]: _number(verdict["old"])},
        {"": "new", "version": served, verdict["metric"]: _number(verdict["new"])},
    ]
    await shown(
        acreate_table_artifact(
            table=rows, key=f"{naming.child(run)}-gate-{plan.namespace}", description=verdict["reason"]
        )
    )


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.6g}"
