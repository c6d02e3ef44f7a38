"""XGBoost: JSON and UBJSON models are walked in place; of the old binary format only the head can be told."""

from __future__ import annotations

import struct
from typing import Any, Protocol

from catchment.errors import ExtractionFailed
from catchment.formats.extract.folder import Buffer, ModelFolder
from catchment.formats.extract.json_spans import JsonSpans
from catchment.formats.extract.result import Extracted, shown
from catchment.formats.extract.ubjson import Ubjson

_PATTERNS = ("*.xgboost", "*.json", "*.ubj", "*.bin", "*.model", "*.bst")
_MAX_LISTED = 2_000
_OLD_HEAD = struct.Struct("<fIiiiII")
"""base_score, features, classes, two flags, major and minor version: the first of 136 bytes."""
_OLD_BYTES = 136
_OLD_PREFIX = b"binf"


class Document(Protocol):
    """JSON, in one of its spellings."""

    root: int

    def members(self, at: int) -> Any:
        """Name and place of each member of the object that begins there."""

    def value(self, at: int) -> Any:
        """The value that begins there."""


def read(folder: ModelFolder) -> Extracted:
    """Features, trees and objective of the one model file, whatever its name ends with."""
    name = folder.one(*_PATTERNS)
    with folder.mapped(name) as data:
        start = bytes(data[:2])
        if start[:1] != b"{":
            return _old(data, name)
        # In UBJSON a length follows, in JSON a name or blanks.
        document: Document = Ubjson(data) if start[1:2] in b"iUIlL#$N" else JsonSpans(data)
        return _extracted(document, name)


def _extracted(document: Document, name: str) -> Extracted:
    top = dict(document.members(document.root))
    if "learner" not in top:
        raise ExtractionFailed(f"{shown(name)} is no XGBoost model: it has no 'learner'")
    learner = dict(document.members(top["learner"]))
    if "learner_model_param" not in learner or "gradient_booster" not in learner:
        raise ExtractionFailed(f"{shown(name)} is no XGBoost model: its learner lacks a part")
    version = document.value(top["version"]) if "version" in top else []
    param = document.value(learner["learner_model_param"])
    objective = document.value(learner["objective"]) if "objective" in learner else {}
    extras = {
        "features": _number(param, "num_feature"),
        "classes": _number(param, "num_class"),
        "targets": _number(param, "num_target"),
        "baseScore": str(param.get("base_score", "")),
        "objective": str(objective.get("name", "")),
    }
    for key, member in (("featureNames", "feature_names"), ("featureTypes", "feature_types")):
        listed = document.value(learner[member]) if member in learner else []
        extras |= {key: [str(each) for each in listed[:_MAX_LISTED]]} if listed else {}
    return _with_booster(document, learner["gradient_booster"], ".".join(map(str, version)), extras)


def _with_booster(document: Document, at: int, version: str, extras: dict[str, Any]) -> Extracted:
    booster = dict(document.members(at))
    kind = str(document.value(booster["name"])) if "name" in booster else ""
    if kind == "dart" and "gbtree" in booster:
        booster = dict(document.members(booster["gbtree"]))
    model = dict(document.members(booster["model"])) if "model" in booster else {}
    extras["booster"] = kind
    parameters, layers = None, {}
    if "weights" in model:
        parameters = len(document.value(model["weights"]))
    if "gbtree_model_param" in model:
        layers = {"Tree": _number(document.value(model["gbtree_model_param"]), "num_trees")}
    absent = ["inputs and outputs by name: a booster takes a matrix of features, whose number is told"]
    absent += (
        [] if parameters is not None else ["parameters: trees have splits and leaves, which are not counted"]
    )
    absent += [] if version else ["the XGBoost version: not in the file"]
    return Extracted(
        "XGBoost",
        "XGBoost",
        version,
        layers=layers,
        parameters=parameters,
        extras=extras,
        absent=tuple(absent),
    )


def _number(param: Any, key: str) -> int:
    """A number that XGBoost writes as text; 0 where it is not there."""
    text = str(param.get(key, "0")) if isinstance(param, dict) else ""
    if not text.isdecimal() or len(text) > 18:
        raise ExtractionFailed(f"{key} of the XGBoost model is {shown(text)}, which is no number")
    return int(text)


def _old(data: Buffer, name: str) -> Extracted:
    """The head of the binary format that XGBoost wrote up to version 2."""
    begin = len(_OLD_PREFIX) if data[:4] == _OLD_PREFIX else 0
    at = begin + _OLD_BYTES
    objective, at = _old_text(data, at)
    booster, at = _old_text(data, at)
    if not objective or booster not in ("gbtree", "gblinear", "dart"):
        raise ExtractionFailed(
            f"{shown(name)} is no XGBoost model: neither JSON, UBJSON nor the old binary format"
        )
    base, features, classes, _, _, major, minor = _OLD_HEAD.unpack(data[begin : begin + _OLD_HEAD.size])
    return Extracted(
        "XGBoost",
        "XGBoost",
        f"{major}.{minor}" if major else "",
        extras={
            "serialization": "binary",
            "features": features,
            "classes": classes,
            "baseScore": f"{base:.9g}",
            "objective": objective,
            "booster": booster,
        },
        absent=(
            "inputs and outputs by name: a booster takes a matrix of features, whose number is told",
            "trees, feature names and parameters: the old binary format is not documented, and XGBoost 3 "
            "does not read it; load it with XGBoost 1 or 2 and save it as .json or .ubj",
        ),
    )


def _old_text(data: Buffer, at: int) -> tuple[str, int]:
    length = int.from_bytes(data[at : at + 8], "little")
    found = data[at + 8 : at + 8 + length] if 0 < length <= 64 else b""
    return (found.decode() if found.isascii() and len(found) == length else ""), at + 8 + length
