"""What a person sees of a rollout in the Prefect UI: each step's comparison, and why it was rolled back.

Artifacts are a view. A server that does not take one costs a warning and never a step.
"""

from __future__ import annotations

from typing import Any

from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact

from catchment.serving.claim import RolloutClaim
from flows.artifacts import shown


def _key(claim: RolloutClaim, what: str) -> str:
    """Artifact keys are lower case letters, digits and dashes."""
    return f"serving-{claim.namespace}-{claim.name}-{claim.number}-{what}"


async def show_step(claim: RolloutClaim, percent: int, facts: dict[str, Any]) -> None:
    """Both versions beside each other while the new one had so much of the traffic."""
    told = f"{claim.name}: {percent} % of the traffic for rollout {claim.number}."
    await shown(
        acreate_table_artifact(table=_table(facts), key=_key(claim, f"at-{percent}"), description=told)
    )


def _table(facts: dict[str, Any]) -> list[dict[str, Any]]:
    pairs = [
        ("requests", facts["requests"]),
        ("probes of the rollout's own", facts["probes"]),
        ("share of errors", facts["error_rate"]),
        (f"median of {facts['median_ms']['of']}, ms", facts["median_ms"]),
    ]
    rows = [{"": name, "stable": both["stable"], "new": both["new"]} for name, both in pairs]
    mirrored = facts["mirrored"]
    said = f"{mirrored['disagreed']} of {mirrored['compared']}"
    return [*rows, {"": "mirrored requests answered otherwise", "stable": "", "new": said}]


async def show_failure(claim: RolloutClaim, error: Exception) -> None:
    """Why a rollout goes back."""
    facts = getattr(error, "facts", None) or {}
    lines = [f"**Rollout {claim.number} of {claim.name} is rolled back**: {error}"]
    if "median_ms" in facts:
        lines += ["", "| | stable | new |", "|---|---|---|"]
        lines += [f"| {row['']} | {row['stable']} | {row['new']} |" for row in _table(facts)]
    await shown(
        acreate_markdown_artifact(
            markdown="\n".join(lines), key=_key(claim, "back"), description="Why it was rolled back"
        )
    )
