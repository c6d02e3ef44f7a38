"""Figures of a process in Prometheus' text format: counters, gauges and histograms, a few lines each.

The base install, and so every site, has no package for them (docs/adr/0029).
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

Kind = Literal["counter", "gauge", "histogram"]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds for what a server answers."""
LONG_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
"""Bounds for what a training takes."""


@dataclass(frozen=True)
class Family:
    """One metric, and what is said of it.

    Attributes:
        name: with the prefix `catchment_` and the unit; a counter's ends with `_total`.
        help: one sentence.
        labels: names of its labels, in the order in which their values are given.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


class Counter:
    """Numbers that only grow, one for each set of label values."""

    kind: Kind = "counter"

    def __init__(self, family: Family) -> None:
        self.family = family
        self._lock = threading.Lock()
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, by: float = 1) -> None:
        """Count."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + by

    def value(self, *labels: str) -> float:
        """The number now; 0 for labels that were never counted."""
        return self._values.get(labels, 0)

    def labelled(self) -> list[tuple[str, ...]]:
        """The label values that there are."""
        with self._lock:
            return list(self._values)

    def lines(self, fixed: str) -> list[str]:
        """Its series; `fixed` are labels of every one of them."""
        with self._lock:
            values = sorted(self._values.items())
        return [_line(self.family, fixed, labels, value) for labels, value in values]


class Gauge(Counter):
    """Numbers that go up and down."""

    kind: Kind = "gauge"

    def set(self, value: float, *labels: str) -> None:
        """Say what it is now."""
        with self._lock:
            self._values[labels] = value


class Histogram:
    """How many values fell into each bucket, and their sum, for each set of label values."""

    kind: Kind = "histogram"

    def __init__(self, family: Family, bounds: Sequence[float] = BUCKETS_S) -> None:
        self.family = family
        self._bounds = tuple(bounds)
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * (len(self._bounds) + 1))
        self._sums: dict[tuple[str, ...], float] = defaultdict(float)

    def add(self, value: float, *labels: str) -> None:
        """Count one value."""
        place = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[labels][place] += 1
            self._sums[labels] += value

    def lines(self, fixed: str) -> list[str]:
        """Its series; `fixed` are labels of every one of them."""
        with self._lock:
            found = [(labels, list(counts), self._sums[labels]) for labels, counts in self._counts.items()]
        lines = []
        for labels, counts, total in sorted(found):
            told, below = _joined(fixed, _pairs(self.family.labels, labels)), 0
            for bound, count in zip((*map(str, self._bounds), "+Inf"), counts, strict=True):
                below += count
                bucket = _joined(told, f'le="{bound}"')
                lines.append(f"{self.family.name}_bucket{{{bucket}}} {below}")
            lines.append(_series(f"{self.family.name}_sum", told, total))
            lines.append(_series(f"{self.family.name}_count", told, below))
        return lines


class Measured:
    """A metric whose values are looked up when somebody asks.

    Args:
        family: what it is.
        look: label values -> the value now, for each series.
    """

    def __init__(self, family: Family, look: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        self.family = family
        self._look = look

    def lines(self, fixed: str) -> list[str]:
        """Its series; `fixed` are labels of every one of them."""
        return [_line(self.family, fixed, labels, value) for labels, value in sorted(self._look().items())]


M = TypeVar("M", bound="Counter | Histogram | Measured")


class Registry:
    """The metrics of one process, or of one part of it.

    Args:
        fixed: labels of every series.
    """

    def __init__(self, **fixed: str) -> None:
        self._fixed = ",".join(f'{name}="{_escaped(value)}"' for name, value in fixed.items())
        self._metrics: list[Counter | Histogram | Measured] = []

    def counter(self, name: str, described: str, *labels: str) -> Counter:
        """A new counter."""
        return self._added(Counter(Family(name, "counter", described, labels)))

    def gauge(self, name: str, described: str, *labels: str) -> Gauge:
        """A new gauge."""
        return self._added(Gauge(Family(name, "gauge", described, labels)))

    def histogram(
        self, name: str, described: str, *labels: str, bounds: Sequence[float] = BUCKETS_S
    ) -> Histogram:
        """A new histogram; values and bounds have the unit that the name says."""
        return self._added(Histogram(Family(name, "histogram", described, labels), bounds))

    def measured(self, family: Family, look: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        """A metric that is looked up when it is asked for."""
        self._added(Measured(family, look))

    def now(self, name: str, described: str, look: Callable[[], float]) -> None:
        """A gauge of one number that is looked up when it is asked for."""
        self.measured(Family(name, "gauge", described), lambda: {(): float(look())})

    @property
    def families(self) -> list[Family]:
        """All that there is, in the order of definition."""
        return [metric.family for metric in self._metrics]

    def text(self) -> str:
        """All series with their heads, each line ended."""
        lines: list[str] = []
        for metric in self._metrics:
            lines += [*head(metric.family), *metric.lines(self._fixed)]
        return "".join(f"{line}\n" for line in lines)

    def _added(self, metric: M) -> M:
        if any(metric.family.name == known.name for known in self.families):
            raise ValueError(f"metric {metric.family.name!r} is defined twice")
        self._metrics.append(metric)
        return metric


def head(family: Family) -> list[str]:
    """The two comment lines before a metric's series."""
    return [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]


class Sample(Protocol):
    """One value that somebody else counts, such as the gateway."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def described(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def value(self) -> float: ...


def samples_text(samples: Iterable[Sample]) -> str:
    """The text of others' values: those of one name together, below one head."""
    lines: dict[str, list[str]] = {}
    for sample in samples:
        heads = [f"# HELP {sample.name} {sample.described}", f"# TYPE {sample.name} {sample.kind}"]
        labels = _pairs(tuple(sample.labels), tuple(sample.labels.values()))
        lines.setdefault(sample.name, heads).append(_series(sample.name, labels, sample.value))
    return "".join(f"{line}\n" for of_one in lines.values() for line in of_one)


def _line(family: Family, fixed: str, labels: tuple[str, ...], value: float) -> str:
    return _series(family.name, _joined(fixed, _pairs(family.labels, labels)), value)


def _series(name: str, labels: str, value: float) -> str:
    told = f"{value:.0f}" if math.isfinite(value) and value == int(value) else f"{value:.15g}"
    return f"{name}{{{labels}}} {told}" if labels else f"{name} {told}"


def _pairs(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _joined(*parts: str) -> str:
    return ",".join(part for part in parts if part)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
