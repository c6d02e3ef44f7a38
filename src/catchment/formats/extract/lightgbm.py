"""LightGBM's text models: the lines before the first tree."""

from __future__ import annotations

from typing import Any

from catchment.errors import ExtractionFailed
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import Extracted, shown

MAX_HEAD_BYTES = 16 * 2**20
_MAX_LISTED = 2_000


def read(folder: ModelFolder) -> Extracted:
    """Features, classes, objective and trees of the one model file."""
    name = folder.one("*.txt", "*.lgb", "*.model", "*.lightgbm")
    head, size = _head(folder, name)
    for key in ("version", "max_feature_idx", "feature_names"):
        if key not in head:
            raise ExtractionFailed(f"{shown(name)} is no LightGBM model: its head has no {key}")
    trees = [_number(head, "tree_sizes", each) for each in head.get("tree_sizes", "").split()]
    if sum(trees) > size:
        raise ExtractionFailed(
            f"{shown(name)} is cut off: its trees have {sum(trees)} bytes, the file {size}"
        )
    absent = ["inputs and outputs by name: a booster takes a matrix of features, whose number is told"]
    absent += ["parameters: trees have splits and leaves, which are not counted"]
    absent += ["the LightGBM version: the file tells only the number of its own format"]
    absent += [] if "tree_sizes" in head else ["the number of trees: files before version 3 do not tell it"]
    return Extracted(
        "LightGBM",
        "LightGBM",
        layers={"Tree": len(trees)} if trees else {},
        extras=_extras(head),
        absent=tuple(absent),
    )


def _extras(head: dict[str, str]) -> dict[str, Any]:
    names = head["feature_names"].split(" ")
    found: dict[str, Any] = {
        "formatVersion": head["version"],
        "features": _number(head, "max_feature_idx") + 1,
        "featureNames": names[:_MAX_LISTED],
        "objective": head.get("objective", ""),
    }
    if "num_class" in head:
        found["classes"] = _number(head, "num_class")
    if "num_tree_per_iteration" in head:
        found["treesPerIteration"] = _number(head, "num_tree_per_iteration")
    return found


def _head(folder: ModelFolder, name: str) -> tuple[dict[str, str], int]:
    """Keys and values before the first tree, and the file's size."""
    head: dict[str, str] = {}
    with folder.opened(name) as file:
        size = file.seek(0, 2)
        file.seek(0)
        if file.readline(64).strip() != b"tree":
            raise ExtractionFailed(f"{shown(name)} is no LightGBM model: its first line is not 'tree'")
        left = MAX_HEAD_BYTES
        while left > 0:
            line = file.readline(left)
            left -= len(line)
            if not line or line.startswith((b"Tree=", b"end of trees")):
                return head, size
            key, _, value = line.decode("utf-8", "replace").strip().partition("=")
            if key:
                head[key] = value
    raise ExtractionFailed(f"{shown(name)} has more than {MAX_HEAD_BYTES} bytes before its first tree")


def _number(head: dict[str, str], key: str, text: str | None = None) -> int:
    text = head[key] if text is None else text
    if not text.isdecimal() or len(text) > 18:
        raise ExtractionFailed(f"{key} of the LightGBM model is {shown(text)}, which is no number")
    return int(text)
