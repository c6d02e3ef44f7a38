"""What a person sees of a job in the Prefect UI: progress, a table per round, a closing page.

Artifacts are a view. A server that does not take one costs a warning and never a round.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.exceptions import PrefectHTTPStatusError

from catchment.rounds import run
from catchment.rounds.claim import Claim
from tasks.store import process_store

log = logging.getLogger(__name__)
T = TypeVar("T")


async def _shown(artifact: Awaitable[T]) -> T | None:
    try:
        return await artifact
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        log.warning("artifact not shown: %s", error)
        return None


def _key(*parts: object) -> str:
    """Artifact keys are lower case letters, digits and dashes."""
    return "-".join(str(part) for part in parts)


async def begin_progress(claim: Claim, remaining: range) -> UUID | None:
    """A progress bar of the whole job; its id."""
    done = _percent(remaining.start - 1, remaining.stop - 1)
    return await _shown(
        acreate_progress_artifact(
            progress=done,
            key=_key("job", claim.namespace, claim.job_id),
            description=f"Rounds of job {claim.job_id}, run {claim.run}",
        )
    )


async def move_progress(progress: UUID | None, done: int, total: int) -> None:
    """Move the bar to `done` of `total` rounds."""
    if progress is not None:
        await _shown(aupdate_progress_artifact(artifact_id=progress, progress=_percent(done, total)))


def _percent(done: int, total: int) -> float:
    return 100.0 * done / total if total else 100.0


async def report_round(claim: Claim, number: int) -> None:
    """A line in the run's log, and a table of what every site did in a round."""
    report = await asyncio.to_thread(run.round_report, process_store(), claim, number)
    metrics = report["metrics"] or {}
    shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name != "sample_num")
    get_run_logger().info("%s", log_line(report, shown))
    await _shown(
        acreate_table_artifact(
            table=[_table_row(outcome) for outcome in report["sites"]],
            key=_key("round", claim.namespace, claim.job_id, number),
            description=(
                f"Round {number}, attempt {report['attempt'] + 1}: {report['state']}"
                + (f", {shown}" if shown else "")
                + (f". {report['reason']}" if report["reason"] else "")
                + f". Rule: {report['rule']}."
                + (f" Privacy: {privacy_words(report['privacy'])}." if report["privacy"] else "")
            ),
        )
    )


def privacy_words(record: dict[str, Any]) -> str:
    """A round's privacy in a sentence: what was done, and the guarantee so far."""
    clip = record.get("clip_norm")
    done = "not clipped" if clip is None else f"clipped to {clip:.4g}"
    std = record.get("mean_noise_std")
    noise = f", noise of std {std:.4g} on the mean" if std is not None else ""
    return f"updates {done}{noise}; {record['guarantee']}" if "guarantee" in record else "not counted yet"


def log_line(report: dict[str, Any], metrics: str) -> str:
    """A round in one line: how it went, what it brought, who took part."""
    told = ", ".join(
        outcome["site"]
        if outcome["outcome"] == "admitted"
        else f"{outcome['site']} {outcome['outcome']} ({outcome['reason']})"
        for outcome in report["sites"][:20]
    )
    took = "" if report["seconds"] is None else f" in {report['seconds']:.2f} s"
    return f"round {report['round']} {report['state']}{took}: {metrics or 'not evaluated'}; {told}"


def _table_row(outcome: dict[str, Any]) -> dict[str, Any]:
    return {
        "site": outcome["site"],
        "outcome": outcome["outcome"],
        "samples": outcome["num_samples"] or "",
        "seconds": outcome["seconds"],
        "MB": round(outcome["bytes"] / 1e6, 3),
        "reason": outcome["reason"],
    }


async def close(claim: Claim, summary: dict[str, Any]) -> None:
    """The closing page: result, checkpoints, metrics of the evaluated rounds."""
    lines = [
        f"# Job {claim.job_id}, run {claim.run}: {summary['rounds']} rounds",
        "",
        f"Final weights: `{summary['weights']}`",
        "",
        "| checkpoint | accuracy | path |",
        "|---|---|---|",
    ]
    for name, checkpoint in summary["checkpoints"].items():
        lines.append(f"| {name} | {_number(checkpoint['accuracy'])} | `{checkpoint['path']}` |")
    lines += ["", "| round | accuracy | loss |", "|---|---|---|"]
    for number, accuracy, loss in zip(
        summary["evaluated_rounds"], summary["accuracy"], summary["loss"], strict=True
    ):
        lines.append(f"| {number} | {_number(accuracy)} | {_number(loss)} |")
    if "privacy" in summary:
        lines += _privacy_lines(summary["privacy"])
    await _shown(
        acreate_markdown_artifact(
            markdown="\n".join(lines),
            key=_key("result", claim.namespace, claim.job_id),
            description=f"Result of job {claim.job_id}",
        )
    )


def _privacy_lines(privacy: dict[str, Any]) -> list[str]:
    lines = ["", f"Privacy: {privacy['guarantee']}", "", "| round | epsilon |", "|---|---|"]
    for number, epsilon in zip(privacy["rounds"], privacy["epsilons"], strict=True):
        lines.append(f"| {number} | {'infinite' if epsilon is None else f'{epsilon:.4g}'} |")
    return lines


def _number(value: float | None) -> str:
    return "not reported" if value is None else f"{value:.4f}"
