"""Whether a new version is better than the one that serves."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from catchment.catalog import rows as catalog_rows
from catchment.retraining import metrics
from catchment.retraining.plan import RetrainGate, RetrainPlan
from catchment.store import Store
from catchment.store.database import Transaction


@dataclass(frozen=True)
class Verdict:
    """What the gate said.

    Attributes:
        passes: whether the new version may be rolled out.
        reason: in words.
        metric: that was compared.
        old: of the version that serves; None where none does, or nothing is known of it.
        new: of the new version; None where nobody evaluated it.
        against: reference of the version that serves; empty where none does.
    """

    passes: bool
    reason: str
    metric: str
    old: float | None
    new: float | None
    against: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a JSON value."""
        return asdict(self)


def judge(store: Store, plan: RetrainPlan, run: str, model_id: str) -> Verdict:
    """Compare a version with the one that serves.

    A run that has made its rollout already, and was killed, is told what it was told before.

    Raises:
        NotFound: the version was deleted.
        InvalidField: the serving has several predictors, and the plan names none of them.
    """

    def step(tx: Transaction) -> Verdict:
        new = metrics.evaluated(tx, catalog_rows.by_id(tx, model_id), plan.gate)
        serves = metrics.serving_version(tx, plan, run)
        if serves is None:
            return compared(plan.gate, None, new, "")
        old = metrics.evaluated(tx, serves, plan.gate)
        told = f"{serves.namespace}/{serves.name}:{serves.version}"
        return compared(plan.gate, plan.gate.baseline if old is None else old, new, told)

    return store.db.read(step)


def compared(gate: RetrainGate, old: float | None, new: float | None, against: str) -> Verdict:
    """The verdict on two values; `against` names the version that serves, "" where there is none."""
    usable = new is not None and math.isfinite(new)
    if not usable:
        told = f"kept: no site has evaluated {gate.metric} of the new version"
        return Verdict(False, told, gate.metric, old, None, against)
    if not against:
        told = f"{gate.metric} {new:.4g}; nothing serves yet, so there is nothing to be better than"
        return Verdict(True, told, gate.metric, None, new)
    if old is None or not math.isfinite(old):
        told = (
            f"kept: nothing is known of {gate.metric} of {against}; gate.baseline says what it is taken for"
        )
        return Verdict(False, told, gate.metric, None, new, against)
    assert new is not None  # noqa: S101 - usable
    better = is_better(gate, old, new)
    sign, bound = ("+", "<>=") if gate.higher_is_better else ("-", "><=")
    bound = bound[1:] if better else bound[0]
    said = f"{gate.metric} {new:.4g} {bound} {old:.4g} {sign} {gate.margin:g}"
    if new == old and not gate.margin:
        said = f"{gate.metric} {new:.4g} is no better than {old:.4g}"
    return Verdict(better, said if better else f"kept: {said}", gate.metric, old, new, against)


def is_better(gate: RetrainGate, old: float, new: float) -> bool:
    """Whether `new` reaches `old` and the margin; with a margin of 0, whether it is above `old`."""
    ahead = new - old if gate.higher_is_better else old - new
    return ahead > 0 and (ahead >= gate.margin or math.isclose(ahead, gate.margin))
