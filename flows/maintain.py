"""Maintenance: flow `maintain` removes unreferenced blobs, hashes a part of the others, and reports."""

from __future__ import annotations

import time
from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact
from prefect.states import Completed, Failed
from pydantic import Field

from catchment.maintenance.plan import MaintainPlan
from catchment.maintenance.verifying import part_of_day
from flows.artifacts import shown
from tasks import maintenance as tasks

Plan = Annotated[MaintainPlan, Field(description="What is removed, and how much is hashed again.")]
DAY_S = 86_400


@flow(name="maintain", flow_run_name="maintain", persist_result=False)
async def maintain(plan: Plan = MaintainPlan()) -> Any:  # noqa: B008 - frozen
    """Look after the store. Fails where a blob is broken: its bytes are not what its digest names.

    Safe to run again, and beside everything else.
    """
    swept = await tasks.sweep(plan)
    part = part_of_day(int(time.time() // DAY_S), plan.parts)
    verified = await tasks.verify(plan, part)
    found = await tasks.report()
    await shown(
        acreate_markdown_artifact(
            markdown=page(swept, verified, found), key="maintenance", description="How the store is"
        )
    )
    if broken := verified["broken"]:
        named = "; ".join(f"{each['digest']} of {_owner(each)}" for each in broken[:10])
        return Failed(message=f"{len(broken)} broken blobs, which were left as they are: {named}")
    would = "would be removed" if swept["dry_run"] else "removed"
    told = (
        f"{swept['removed']} blobs of {swept['freed_bytes']} bytes {would}, {verified['blobs']} hashed again"
    )
    return Completed(message=told, data={"swept": swept, "verified": verified, "report": found})


def _owner(broken: dict[str, Any]) -> str:
    return ", ".join(broken["versions"]) or str(broken["kind"])


def page(swept: dict[str, Any], verified: dict[str, Any], found: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = ["# The store", ""]
    if verified["broken"]:
        lines += ["**Broken blobs.** Nothing was removed; restore them from a backup.", ""]
        lines += ["| digest | has | of |", "|---|---|---|"]
        lines += [f"| `{b['digest']}` | `{b['actual']}` | {_owner(b)} |" for b in verified["broken"]]
        lines.append("")
    lines += ["| blobs of | number | MB |", "|---|---|---|"]
    lines += [
        f"| {kind} | {count} | {swept['bytes'][kind] / 1e6:.1f} |"
        for kind, count in sorted(swept["blobs"].items())
    ]
    would = "would be removed" if swept["dry_run"] else "were removed"
    rest = (
        f"; {verified['left']} more of this part were not, for they are too much" if verified["left"] else ""
    )
    lines += [
        "",
        f"{swept['removed']} blobs of {swept['freed_bytes'] / 1e6:.1f} MB {would}: nothing refers to them.",
        f"Part {verified['part'] + 1} of {verified['parts']}: {verified['blobs']} blobs of "
        f"{verified['bytes'] / 1e6:.1f} MB were hashed again{rest}.",
        "",
        "| what | how many |",
        "|---|---|",
    ]
    for what in ("jobs", "model_jobs", "versions"):
        lines += [f"| {what.replace('_', ' ')} {state} | {count} |" for state, count in found[what].items()]
    lines.append(f"| sites | {found['sites']}, silent: {', '.join(found['silent']) or 'none'} |")
    lines.append(f"| servings | {found['servings']}, failed: {'; '.join(found['failed']) or 'none'} |")
    return "\n".join(lines)
