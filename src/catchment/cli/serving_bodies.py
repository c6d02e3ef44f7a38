"""Bodies of servings out of a command's options: the short form of a new one, and changes of one."""

from __future__ import annotations

import copy
import json
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
    click.option("--approval/--no-approval", default=None, help="A person must agree after the first step."),
)
_CANARY = {"canary_steps": "steps", "step_seconds": "step_s", "min_requests": "min_requests"} | {
    "approval": "approval"
}
_NAMES = {"model": "model", "replicas": "replicas", "format_": "format"} | {
    "runtime": "runtime",
    "backend": "backend",
}


_ANNOTATION = "catchment.io/"


def composed(name: str | None, document: dict[str, Any] | None, short: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a new serving: the document as it stands, or the short form of the options.

    Raises:
        Refused: both are given, or too little is; the message says what would be right.
    """
    body, canary = _said(short, _NAMES), _said(short, _CANARY)
    if document is not None:
        return alone(document, short)
    if name is None:
        raise Refused("NAME is required, or -f FILE")
    if "model" not in body:
        raise Refused("--model is required, such as --model default/digits:v1, or -f FILE")
    return {"name": name, **body, **({"canary": canary} if canary else {})}


def alone(document: dict[str, Any], short: Mapping[str, Any]) -> dict[str, Any]:
    """The document as it stands. Raises Refused when options are given beside it."""
    if _said(short, _NAMES) or _said(short, _CANARY):
        raise Refused("give -f FILE or options such as --model, not both; the file can say all of them")
    return document


def changed(shown: Mapping[str, Any], short: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a change: the serving as the server shows it, with what the options say put into it.

    It bears the resourceVersion that was read, so what others change meanwhile is not overwritten.

    Raises:
        Refused: no option says anything, or the serving has several predictors.
    """
    body, canary = _said(short, _NAMES), _said(short, _CANARY)
    if not body and not canary:
        raise Refused("nothing is to be changed; give -f FILE, or options such as --model or --replicas")
    new = copy.deepcopy({key: shown[key] for key in ("apiVersion", "kind", "spec")})
    meta = {key: shown["metadata"][key] for key in ("name", "labels", "resourceVersion")}
    annotations = dict(shown["metadata"].get("annotations") or {})
    if canary:
        before = json.loads(annotations.get(_ANNOTATION + "canary", "{}"))
        annotations[_ANNOTATION + "canary"] = json.dumps({**before, **canary})
    if (backend := body.pop("backend", None)) is not None:
        annotations[_ANNOTATION + "backend"] = backend
    if body:
        _put(body, new["spec"]["predictors"])
    return {**new, "metadata": {**meta, "annotations": annotations}}


def _put(body: Mapping[str, Any], predictors: list[dict[str, Any]]) -> None:
    """Put options into the one predictor of a SeldonDeployment."""
    if len(predictors) != 1:
        raise Refused(f"the serving has {len(predictors)} predictors; say in a file (-f FILE) which is meant")
    predictor, graph = predictors[0], predictors[0]["graph"]
    if "replicas" in body:
        predictor["replicas"] = body["replicas"]
        for component in predictor.get("componentSpecs") or ():
            component.pop("replicas", None)
    if "model" in body:
        graph["modelUri"] = body["model"]
    if "runtime" in body:
        graph["implementation"] = body["runtime"]
    if "format" in body:
        others = [each for each in graph.get("parameters") or () if each.get("name") != "format"]
        graph["parameters"] = [*others, {"name": "format", "value": body["format"], "type": "STRING"}]


def _said(short: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[key]: value for key, value in short.items() if key in names and value is not None}
