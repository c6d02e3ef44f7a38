"""Counts and times of a model server, in Prometheus' text format."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "catchment_serving"


class Histogram:
    """How many values fell into each bucket, and their sum."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value, in seconds."""
        self.counts[bisect_left(BUCKETS_S, value)] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> list[str]:
        """The series of this histogram; `labels` without braces."""
        lines, below = [], 0
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self.counts, strict=True):
            below += count
            lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {below}')
        return [*lines, f"{name}_sum{{{labels}}} {self.total:.9g}", f"{name}_count{{{labels}}} {below}"]


class Metrics:
    """What one server has done; used by many threads.

    Args:
        model: the model's name.
        version: and version, labels of every series.
    """

    def __init__(self, model: str, version: str) -> None:
        self._labels = f'model="{model}",version="{version}"'
        self._lock = threading.Lock()
        self._answered: Counter[tuple[str, str]] = Counter()
        self._took: dict[str, Histogram] = defaultdict(Histogram)
        self._inference = Histogram()

    def answered(self, protocol: str, code: str, seconds: float) -> None:
        """One inference request has its answer, `seconds` after it began to arrive."""
        with self._lock:
            self._answered[protocol, code] += 1
            self._took[protocol].add(seconds)

    def inferred(self, seconds: float) -> None:
        """The model ran for so long."""
        with self._lock:
            self._inference.add(seconds)

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """All series.

        Args:
            gauges: by name: its help, its value now.
        """
        lines: list[str] = []
        for name, (described, value) in gauges.items():
            lines += [*_head(name, "gauge", described), f"{PREFIX}_{name}{{{self._labels}}} {value:g}"]
        with self._lock:
            lines += _head("requests_total", "counter", "Inference requests answered, by protocol and code.")
            for (protocol, code), count in sorted(self._answered.items()):
                labels = f'{self._labels},protocol="{protocol}",code="{code}"'
                lines.append(f"{PREFIX}_requests_total{{{labels}}} {count}")
            lines += _head("request_seconds", "histogram", "From a request's head to its answer.")
            for protocol, histogram in sorted(self._took.items()):
                labels = f'{self._labels},protocol="{protocol}"'
                lines += histogram.lines(f"{PREFIX}_request_seconds", labels)
            lines += _head("inference_seconds", "histogram", "Time within the model.")
            lines += self._inference.lines(f"{PREFIX}_inference_seconds", self._labels)
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, described: str) -> list[str]:
    return [f"# HELP {PREFIX}_{name} {described}", f"# TYPE {PREFIX}_{name} {kind}"]
