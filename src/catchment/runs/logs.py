"""A part of a log in the shape of the Kubernetes dashboard, which the original's clients read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

BYTES_FROM_BEGINNING = 500_000
LINES_FROM_END = 5_000


@dataclass(frozen=True)
class Selection:
    """Which lines of a log are wanted, in the words of the Kubernetes dashboard.

    Attributes:
        timestamp: of the reference line; "newest" or "oldest" for the ends.
        line_num: which one among the lines of that time; negative counts from the last.
        offset_from, offset_to: lines before and after the reference.
        position: the end of the log that is read when it is long.
    """

    timestamp: str = "newest"
    line_num: int = 0
    offset_from: int = -99
    offset_to: int = 1
    position: Literal["beginning", "end"] = "end"


def details(
    pod: str, container: str, lines: list[dict[str, str]], wanted: Selection, *, truncated: bool
) -> dict[str, Any]:
    """The lines that are wanted, with the selection that gives them.

    Args:
        pod, container: whose log it is.
        lines: `{"timestamp", "content"}`, oldest first, as many as were read.
        wanted: which of them.
        truncated: whether the log has more.
    """
    chosen, selection = _chosen(lines, wanted)
    return {
        "info": {
            "podName": pod,
            "containerName": container,
            "initContainerName": "",
            "fromDate": chosen[0]["timestamp"] if chosen else "",
            "toDate": chosen[-1]["timestamp"] if chosen else "",
            "truncated": truncated and bool(chosen),
        },
        "selection": selection,
        "logs": chosen,
    }


_NOTHING = {
    "referencePoint": {"timestamp": "", "lineNum": 0},
    "offsetFrom": 0,
    "offsetTo": 0,
    "logFilePosition": "",
}


def _chosen(lines: list[dict[str, str]], wanted: Selection) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The lines around the reference, and a selection around their middle that gives the same ones."""
    reference = _reference(lines, wanted)
    if reference is None:
        return [], _NOTHING
    start = max(0, reference + wanted.offset_from)
    stop = min(len(lines), reference + wanted.offset_to)
    if wanted.timestamp == "newest" and wanted.offset_from < 0 and stop == len(lines):
        start = max(0, stop - (wanted.offset_to - wanted.offset_from))
    chosen = lines[start:stop]
    if not chosen:
        return [], _NOTHING
    middle = start + len(chosen) // 2
    at = lines[middle]["timestamp"]
    first = next(index for index, line in enumerate(lines) if line["timestamp"] == at)
    point = {"timestamp": at, "lineNum": middle - first + 1}
    return chosen, {
        "referencePoint": point,
        "offsetFrom": start - middle,
        "offsetTo": stop - middle,
        "logFilePosition": wanted.position,
    }


def _reference(lines: list[dict[str, str]], wanted: Selection) -> int | None:
    if not lines:
        return None
    if wanted.timestamp == "newest":
        return len(lines) - 1
    if wanted.timestamp == "oldest":
        return 0
    equal = [index for index, line in enumerate(lines) if line["timestamp"] == wanted.timestamp]
    if not equal:
        return None
    number = wanted.line_num - 1 if wanted.line_num > 0 else wanted.line_num
    return equal[number] if -len(equal) <= number < len(equal) else None
