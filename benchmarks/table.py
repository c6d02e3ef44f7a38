"""What the benchmarks print: values beside their floors, as a table or as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One measured value beside its floor.

    Attributes:
        workload: which benchmark.
        metric: what was measured.
        value: in `unit`.
        floor: the same of what cannot be beaten, taken in the same run, where there is such a thing.
        unit: of value and floor.
    """

    workload: str
    metric: str
    value: float
    floor: float | None
    unit: str


def show(lines: Iterable[Line], *, as_json: bool) -> None:
    """Print lines as they come."""
    for line in lines:
        print(json.dumps(vars(line)) if as_json else _row(line), flush=True)


def _row(line: Line) -> str:
    floor = f"   floor {line.floor:9.3f}   ratio {line.value / line.floor:6.2f}" if line.floor else ""
    return f"{line.workload:9} {line.metric:54} {line.value:9.3f} {line.unit:10}{floor}"
