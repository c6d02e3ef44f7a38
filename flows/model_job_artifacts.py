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
        await _report(claim, found["report"])


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


async def show_refused(claim: ModelJobClaim, report: dict[str, Any]) -> None:
    """Show why the gate refused a conversion, with its numbers."""
    await _report(claim, report)


async def _report(claim: ModelJobClaim, report: dict[str, Any]) -> None:
    told = f"What ModelJob {claim.namespace}/{claim.name} made, held against its source."
    await shown(
        acreate_markdown_artifact(markdown=page(report), key=_key(claim, "equivalence"), description=told)
    )


def page(report: dict[str, Any]) -> str:
    """The equivalence report as a page of Markdown."""
    lines = [
        f"# {report['source_format']} → {report['target_format']} with {report['backend']}",
        "",
        _verdict(report),
        "",
        _compared(report),
    ]
    if report["outputs"]:
        lines += [
            "",
            "| output | max error | mean error | times what is allowed | argmax agrees | worst sample |",
            "|---|---|---|---|---|---|",
            *map(_line, report["outputs"]),
        ]
    for title, key in (("Problems", "problems"), ("Notes", "notes")):
        if report[key]:
            lines += ["", f"## {title}", "", *(f"* {each}" for each in report[key])]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(report["versions"].items()))
    return "\n".join([*lines, "", f"Versions: {versions}."])


def _verdict(report: dict[str, Any]) -> str:
    if not report["passed"]:
        return "**The gate refused it; nothing was pushed.**"
    return "**Lossy by design.**" if report["lossy"] else "**Equivalent within the tolerance.**"


def _compared(report: dict[str, Any]) -> str:
    if not report["reference"]:
        return "Not compared in numbers: no runtime of the source is here."
    tolerance = "by dtype" if report["tolerance"] is None else f"{report['tolerance']:g}"
    return (
        f"The source ran in {report['reference']}, the result in {report['runtime']}. "
        f"Tolerance: {tolerance}; seed {report['seed']}; samples: {', '.join(report['samples']) or 'none'}."
    )


def _line(each: dict[str, Any]) -> str:
    agrees = each.get("argmax_agreement")
    cells = (
        each["name"].replace("|", "\\|"),
        *(_number(each[key]) for key in ("max_abs", "mean_abs")),
        _number(each["share"]),
        "–" if agrees is None else f"{agrees:.1%}",
        each["worst"],
    )
    return f"| {' | '.join(map(str, cells))} |"


def _number(value: float | str) -> str:
    """Three digits; a report writes infinity as text."""
    return value if isinstance(value, str) else f"{value:.3g}"
