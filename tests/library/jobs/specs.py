"""Bodies of jobs, right but for one field, and what they are refused for."""

from __future__ import annotations

from typing import Any

import pytest

from catchment.errors import InvalidField
from catchment.jobs.spec import Job, parse_job

MINIMAL: dict[str, Any] = {
    "id": "digits",
    "runtime": "pytorch",
    "output": "out",
    "task_entry": "train",
    "model_path": "models/init.pt",
}
HYPER, RESOURCE = "hyper_parameters", "resource"
MISSING = object()


def body(path: str = "", value: Any = MISSING, **changes: Any) -> dict[str, Any]:
    """A valid job with one dotted field set."""
    made = {**MINIMAL, **changes}
    if path:
        *parents, last = path.split(".")
        place = made
        for parent in parents:
            place[parent] = dict(place.get(parent, {}))
            place = place[parent]
        place[last] = value
    return made


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in MINIMAL.items() if name != field}


def look(job: Job, path: str) -> Any:
    value: Any = job
    for part in path.split("."):
        value = getattr(value, part)
    return value


def refusal(given_body: object) -> InvalidField:
    with pytest.raises(InvalidField) as raised:
        parse_job(given_body)
    assert str(raised.value).startswith(raised.value.field)
    return raised.value
