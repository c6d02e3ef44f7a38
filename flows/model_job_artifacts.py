"""What a person sees of a ModelJob in the Prefect UI: the signature, the operators, the equivalence report.

Artifacts are a view. A server that does not take one costs a warning and never a step.
"""

from __future__ import annotations

import json
from typing import Any

from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact

from catchment.model_jobs import steps
from catchment.model_jobs.claim import ModelJobClaim
from flows.artifacts import shown

MOST_OPERATORS = 40


async def show(claim: ModelJobClaim, step: str, found: dict[str, Any]) -> None:
    """Show what a step has found."""
    if step == steps.EXTRACT:
        await _signature(claim, found)
        await _operators(claim, found)
    elif step == steps.CONVERT:
        await _report(claim, found)


def _key(claim: ModelJobClaim, what: str) -> str:
    """Artifact keys are lower case letters, digits and dashes."""
    name = "".join(char if char.isalnum() else "-" for char in claim.name.lower())
    return f"modeljob-{claim.namespace}-{name}-{what}"


async def _signature(claim: ModelJobClaim, found: dict[str, Any]) -> None:
    table = [
        {
            "": what[:-1],
            "name": tensor["name"],
            "dtype": tensor.get("dType", ""),
            "size": json.dumps(tensor["size"]) if "size" in tensor else "not in the file",
        }
        for what in ("inputs", "outputs")
        for tensor in found["signature"][what]
    ]
    absent = "; ".join(found["absent"]) or "nothing"
    told = f"Signature of {found['format']} ({found['framework']}). Not in the files: {absent}."
    await shown(acreate_table_artifact(table=table, key=_key(claim, "signature"), description=told))


async def _operators(claim: ModelJobClaim, found: dict[str, Any]) -> None:
    """The operators by how often they occur, as bars."""
    layers = sorted(found["signature"]["layers"].items(), key=lambda item: (-item[1], item[0]))
    most = max((count for _, count in layers), default=1)
    rows = [
        {"operator": name, "count": count, "": "█" * max(1, round(30 * count / most))}
        for name, count in layers[:MOST_OPERATORS]
    ]
    told = f"Operators: {sum(count for _, count in layers)} of {len(layers)} kinds."
    await shown(acreate_table_artifact(table=rows, key=_key(claim, "operators"), description=told))


async def _report(claim: ModelJobClaim, found: dict[str, Any]) -> None:
    report = found["report"]
    lines = [
        f"# {report['source_format']} → {report['target_format']} with {found['backend']}",
        "",
        "lossy by design" if report["lossy"] else "equivalent within the tolerance",
        "",
        "| output | max error | mean error | argmax agrees | worst input |",
        "|---|---|---|---|---|",
        *(_line(each) for each in report["outputs"]),
        "",
        *(f"* {note}" for note in report["notes"]),
    ]
    await shown(acreate_markdown_artifact(markdown="\n".join(lines), key=_key(claim, "equivalence")))


def _line(each: dict[str, Any]) -> str:
    agrees = each.get("argmax_agreement", "–")
    return f"| {each['name']} | {each['max_abs']} | {each['mean_abs']} | {agrees} | {each['worst']} |"
