"""Counts and times of a model server."""

from __future__ import annotations

from collections.abc import Mapping

from catchment.observe.registry import BUCKETS_S, Family, Registry

PREFIX = "catchment_serving"
GAUGES = (
    Family(f"{PREFIX}_model_info", "gauge", "Always 1; its labels name the model that is served."),
    Family(f"{PREFIX}_ready", "gauge", "1 while inferences are taken."),
    Family(f"{PREFIX}_in_flight", "gauge", "Requests that have no answer yet."),
    Family(f"{PREFIX}_running", "gauge", "Inferences under way."),
    Family(f"{PREFIX}_queue", "gauge", "Requests that arrive or wait for an inference to end."),
)
__all__ = ["BUCKETS_S", "GAUGES", "Metrics"]


class Metrics:
    """What one server has done; used by many threads.

    Args:
        model: the model's name.
        version: and version, labels of every series.
    """

    def __init__(self, model: str, version: str) -> None:
        self.registry = registry = Registry(model=model, version=version)
        self._gauges = {family.name: registry.gauge(family.name, family.help) for family in GAUGES}
        self._answered = registry.counter(
            f"{PREFIX}_requests_total",
            "Inference requests answered, by protocol and code.",
            "protocol",
            "code",
        )
        self._took = registry.histogram(
            f"{PREFIX}_request_seconds", "From a request's head to its answer.", "protocol"
        )
        self._inference = registry.histogram(f"{PREFIX}_inference_seconds", "Time within the model.")

    def answered(self, protocol: str, code: str, seconds: float) -> None:
        """One inference request has its answer, `seconds` after it began to arrive."""
        self._answered.add(protocol, code)
        self._took.add(seconds, protocol)

    def inferred(self, seconds: float) -> None:
        """The model ran for so long."""
        self._inference.add(seconds)

    def text(self, gauges: Mapping[str, float]) -> str:
        """All series.

        Args:
            gauges: the values of GAUGES now, by the name after the prefix.
        """
        for name, value in gauges.items():
            self._gauges[f"{PREFIX}_{name}"].set(value)
        return self.registry.text()
