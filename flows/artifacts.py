"""What a person sees of a job in the Prefect UI: progress, a table per round, a closing page.

Artifacts are a view. A server that does not take one costs a warning and never a round.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from dataclasses import dataclass
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
PROGRESS_S = 2.0


async def shown(artifact: Awaitable[T]) -> T | None:
    """What the server says of an artifact; None, with a warning, when it does not take it."""
    try:
        return await artifact
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        log.warning("artifact not shown: %s", error)
        return None


def _key(*parts: object) -> str:
    """Artifact keys are lower case letters, digits and dashes."""
    return "-".join(str(part) for part in parts)


@dataclass
class Progress:
    """A progress bar of the whole job; it moves every few seconds, however short the rounds are."""

    id: UUID | None
    moved_at: float

    @classmethod
    async def begin(cls, claim: Claim, remaining: range) -> Progress:
        """A bar that shows what is done already."""
        artifact = await shown(
            acreate_progress_artifact(
                progress=_percent(remaining.start - 1, remaining.stop - 1),
                key=_key("job", claim.namespace, claim.job_id),
                description=f"Rounds of job {claim.job_id}, run {claim.run}",
            )
        )
        return cls(artifact, time.monotonic())

    async def move(self, done: int, total: int) -> None:
        """Show that `done` of `total` rounds are done, unless the bar was just moved."""
        now = time.monotonic()
        if self.id is None or (done < total and now - self.moved_at < PROGRESS_S):
            return
        self.moved_at = now
        await shown(aupdate_progress_artifact(artifact_id=self.id, progress=_percent(done, total)))


def _percent(done: int, total: int) -> float:
    return 100.0 * done / total if total else 100.0


async def report_round(claim: Claim, number: int) -> None:
    """A line in the run's log, and a table of what every site did in a round."""
    report = await asyncio.to_thread(run.round_report, process_store(), claim, number)
    metrics = report["metrics"] or {}
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name != "sample_num")
    get_run_logger().info("%s", log_line(report, numbers))
    await shown(
        acreate_table_artifact(
            table=[_table_row(outcome) for outcome in _worth_showing(report["sites"])],
            key=_key("round", claim.namespace, claim.job_id, number),
            description=(
                f"Round {number}, attempt {report['attempt'] + 1}: {report['state']}"
                + (f", {numbers}" if numbers else "")
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


MAX_ROWS = 200
"""Of a round's table: a thousand simulated clients would make a page that nobody reads."""


def _worth_showing(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All sites of a round, or the first that there is room for, those with a reason before the others."""
    if len(outcomes) <= MAX_ROWS:
        return outcomes
    return sorted(outcomes, key=lambda outcome: outcome["reason"] == "")[:MAX_ROWS]


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
    await shown(
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
