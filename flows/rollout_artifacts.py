"""What a person sees of a rollout in the Prefect UI: each step's comparison, and a page of how it ended.

Artifacts are a view. A server that does not take one costs a warning and never a step.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact

from catchment.errors import CatchmentError
from catchment.serving import reporting
from catchment.serving.claim import RolloutClaim
from flows.artifacts import shown
from tasks.store import process_store

log = logging.getLogger(__name__)


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


async def show_end(claim: RolloutClaim, error: Exception | None = None) -> None:
    """The page of a rollout that has ended, or goes back for `error`: one key for all of a serving's."""
    try:
        found = await asyncio.to_thread(reporting.report, process_store(), claim)
    except CatchmentError as gone:  # deleted meanwhile, or the store does not answer
        log.warning("rollout=%s/%s/%d not shown: %s", claim.namespace, claim.name, claim.number, gone)
        return
    text = reporting.page(f"{claim.namespace}/{claim.name}", found, getattr(error, "facts", None))
    told = f"Rollout {claim.number} of {claim.name}: {found['phase']}"
    key = f"serving-{claim.namespace}-{claim.name}"
    await shown(acreate_markdown_artifact(markdown=text, key=key, description=told))
