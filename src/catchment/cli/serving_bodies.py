"""The short form of a serving out of a command's options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from catchment.errors import Refused


class Steps(click.ParamType[list[int]]):
    """Percentages such as 5,25,50."""

    name = "percentages"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """A list of whole numbers."""
        try:
            return [int(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r} must be percentages such as 5,25,50,100", param, ctx)


OPTIONS = (
    click.option("--model", help="Version to serve: project/name:version, or its id."),
    click.option("--replicas", type=click.IntRange(min=1), help="How many model servers."),
    click.option("--format", "format_", help="The model's format, where the version does not say it."),
    click.option("--runtime", help="Of the model servers, where the backend has several."),
    click.option("--backend", help="local, kubernetes, kserve or seldon; by default the server's choice."),
    click.option(
        "--canary-steps",
        type=Steps(),
        help="Percent of the traffic that a new version gets, one after the other, such as 5,25,50,100.",
    ),
    click.option("--step-seconds", type=click.FloatRange(min=0), help="How long each step is watched."),
    click.option("--min-requests", type=click.IntRange(min=0), help="So many requests are awaited in each."),
    click.option("--approval", is_flag=True, help="A person must agree after the first step."),
)
_CANARY = {"canary_steps": "steps", "step_seconds": "step_s", "min_requests": "min_requests"}
_NAMES = {"model": "model", "replicas": "replicas", "format_": "format"} | {
    "runtime": "runtime",
    "backend": "backend",
}


def composed(name: str | None, document: dict[str, Any] | None, short: Mapping[str, Any]) -> dict[str, Any]:
    """The body to send: the document as it stands, or the short form of the options.

    Raises:
        Refused: both are given, or too little is; the message says what would be right.
    """
    body = {_NAMES[key]: value for key, value in short.items() if key in _NAMES and value is not None}
    canary = {_CANARY[key]: value for key, value in short.items() if key in _CANARY and value is not None}
    if short.get("approval"):
        canary["approval"] = True
    if document is not None:
        if body or canary:
            raise Refused("give -f FILE or options such as --model, not both; the file can say all of them")
        return document
    if name is None:
        raise Refused("NAME is required, or -f FILE")
    if "model" not in body:
        raise Refused("--model is required, such as --model default/digits:v1, or -f FILE")
    return {"name": name, **body, **({"canary": canary} if canary else {})}
