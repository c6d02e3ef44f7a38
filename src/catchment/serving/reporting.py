"""A rollout on one page: what was there before, what is new, and what each step has seen of both."""

from __future__ import annotations

from typing import Any

from catchment.serving import rows, views
from catchment.serving.claim import RolloutClaim
from catchment.serving.undoing import PROMOTED_STEP
from catchment.store import Store
from catchment.store.database import Transaction


def report(store: Store, claim: RolloutClaim) -> dict[str, Any]:
    """The rollout as `views.rollout_view` has it, with `before`: the models that it came to replace.

    Raises:
        NotFound: the serving was deleted.
    """

    def step(tx: Transaction) -> dict[str, Any]:
        serving, rollout = rows.by_uid(tx, claim.uid), rows.rollout(tx, claim.uid, claim.number)
        promoted = rollout.steps.get(PROMOTED_STEP)
        before = serving.stable if promoted is None else promoted["before"]
        old = [] if before is None else views.rollout_view(rows.rollout(tx, claim.uid, before))["models"]
        return {**views.rollout_view(rollout), "before": old}

    return store.db.read(step)


def page(name: str, found: dict[str, Any], facts: dict[str, Any] | None = None) -> str:
    """A report as Markdown.

    Args:
        name: of the serving, with its namespace.
        found: as `report` has it.
        facts: what was seen when it was sent back, where that was the reason.
    """
    lines = [f"# {name}, {found['kind']} {found['number']}: {found['phase']}", "", found["message"], ""]
    lines += ["| | predictor | version | digest |", "|---|---|---|---|"]
    for side, models in (("before", found["before"]), ("new", found.get("models") or [])):
        lines += [f"| {side} | {_cells(each)} |" for each in models]
    steps = found.get("steps") or {}
    seen = [(f"{key.removeprefix('shift-')} %", each) for key, each in steps.items() if "shift-" in key]
    if facts and "median_ms" in facts:
        seen.append(("when it was sent back", facts))
    if seen:
        titles = "traffic | requests | probes | share of errors | median, ms | mirrored, answered otherwise"
        lines += ["", "Stable version / new one:", "", f"| {titles} |", "|---|---|---|---|---|---|"]
        lines += [f"| {told} | {_seen(each)} |" for told, each in seen]
    lines += ["", f"Asked for by {found.get('createdBy') or 'nobody known'} at {found['creationTime']}"]
    lines[-1] += f", ended at {found['completionTime']}." if "completionTime" in found else "."
    if "approvedBy" in found:
        lines += ["", f"{found['approval'].capitalize()} by {found['approvedBy']}."]
    return "\n".join(lines)


def _cells(model: dict[str, Any]) -> str:
    return f"{model['predictor']} | {model['reference']} | `{model['digest']}`"


def _seen(facts: dict[str, Any]) -> str:
    pairs = [facts[name] for name in ("requests", "probes", "error_rate", "median_ms")]
    cells = [f"{each['stable']} / {each['new']}" for each in pairs]
    cells[-1] += f" ({facts['median_ms']['of']})"
    mirrored = facts["mirrored"]
    return " | ".join([*cells, f"{mirrored['disagreed']} of {mirrored['compared']}"])
