"""Label and field selectors, as query parameters."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.kubernetes_double.problems import Problem

Test = Callable[[dict[str, Any]], bool]
_SET = re.compile(r"^(\S+)\s+(in|notin)\s+\(([^)]*)\)$")
_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "status.phase",
    "spec.type",
    "type",
    "reason",
)


def matcher(labels: str, fields: str) -> Test:
    """Whether an object is selected by both."""
    tests = [_label(part) for part in _parts(labels)] + [_field(part) for part in _parts(fields)]
    return lambda found: all(test(found) for test in tests)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^()]*\))", text) if part.strip()]


def _labels(found: dict[str, Any]) -> dict[str, str]:
    return found["metadata"].get("labels") or {}


def _label(part: str) -> Test:
    if matched := _SET.match(part):
        key, how, listed = matched.groups()
        values = {each.strip() for each in listed.split(",")}
        if how == "in":
            return lambda found: _labels(found).get(key) in values
        return lambda found: _labels(found).get(key) not in values
    for sign in ("!=", "==", "="):
        key, found_sign, value = part.partition(sign)
        if found_sign:
            key, value = key.strip(), value.strip()
            _plain(key, part)
            if sign == "!=":
                return lambda found: _labels(found).get(key) != value
            return lambda found: _labels(found).get(key) == value
    if part.startswith("!"):
        return lambda found: part[1:].strip() not in _labels(found)
    _plain(part, part)
    return lambda found: part in _labels(found)


def _plain(key: str, part: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?", key):
        raise Problem(400, f"unable to parse requirement: found '{part}', expected: identifier")


def _field(part: str) -> Test:
    negative = "!=" in part
    key, _, value = part.replace("==", "=").replace("!=", "=").partition("=")
    if key not in _FIELDS and not key.startswith("involvedObject."):
        raise Problem(400, f"field label not supported: {key}")

    def test(found: dict[str, Any]) -> bool:
        at: Any = found
        for step in key.split("."):
            at = at.get(step, "") if isinstance(at, dict) else ""
        return (str(at) == value) != negative

    return test
