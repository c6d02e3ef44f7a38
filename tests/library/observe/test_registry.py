"""The text that Prometheus reads, checked by its own parser."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from catchment.observe.registry import Family, Registry, samples_text


def parsed(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@given(st.text(), st.floats(allow_nan=False))
def test_any_label_and_any_number_is_read_back(label: str, value: float) -> None:
    # The parser takes lines apart at what Python calls the end of a line; Prometheus does at \n only.
    label = "".join(each for each in label if each == "\n" or len(f"a{each}b".splitlines()) == 1)
    registry = Registry(part=label)
    registry.gauge("catchment_x", "What.", "of").set(value, label)
    ((name, *labels), found), *more = parsed(registry.text()).items()
    assert (name, labels, more) == ("catchment_x", [label, label], [])
    assert found == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_no_finite_number_can_be_told(value: float) -> None:
    registry = Registry()
    registry.gauge("catchment_x", "What.").set(value)
    (found,) = parsed(registry.text()).values()
    assert found == value or (math.isnan(found) and math.isnan(value))


@given(st.lists(st.floats(0, 20)))
def test_a_histogram_counts_each_value_below_its_bounds(values: list[float]) -> None:
    registry = Registry()
    seconds = registry.histogram("catchment_x_seconds", "How long.", "of", bounds=(0.5, 1.0, 10.0))
    for value in values:
        seconds.add(value, "a")
    found = parsed(registry.text())
    if not values:
        assert found == {}
        return
    for bound in (0.5, 1.0, 10.0, math.inf):
        told = "+Inf" if bound == math.inf else str(bound)
        assert found["catchment_x_seconds_bucket", "a", told] == sum(value <= bound for value in values)
    assert found["catchment_x_seconds_count", "a"] == len(values)
    assert found["catchment_x_seconds_sum", "a"] == pytest.approx(sum(values))


def test_threads_lose_no_count() -> None:
    counter = Registry().counter("catchment_x_total", "What.", "of")
    threads = [threading.Thread(target=lambda: [counter.add("a") for _ in range(20_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value("a") == 80_000


def test_a_name_is_taken_once() -> None:
    registry = Registry()
    registry.counter("catchment_x_total", "What.")
    with pytest.raises(ValueError, match="catchment_x_total"):
        registry.now("catchment_x_total", "Again.", lambda: 1)


def test_label_values_that_do_not_fit_are_refused() -> None:
    registry = Registry()
    registry.counter("catchment_x_total", "What.", "a", "b").add("one")
    with pytest.raises(ValueError, match="zip"):
        registry.text()


def test_what_is_looked_up_is_looked_up_each_time() -> None:
    registry, values = Registry(), iter(range(1, 9))
    registry.measured(Family("catchment_x", "gauge", "What.", ("of",)), lambda: {("a",): next(values)})
    assert [parsed(registry.text())["catchment_x", "a"] for _ in range(2)] == [1, 2]


class One(NamedTuple):
    name: str
    kind: str
    described: str
    labels: dict[str, str]
    value: float


def test_values_that_others_count_stand_together_below_one_head() -> None:
    def samples() -> Iterable[Any]:
        yield One("catchment_gateway_requests_total", "counter", "Requests.", {"code": "200"}, 3)
        yield One("catchment_gateway_in_flight", "gauge", "Open.", {}, 1)
        yield One("catchment_gateway_requests_total", "counter", "Requests.", {"code": "500"}, 1)

    text = samples_text(samples())
    assert text.count("# TYPE catchment_gateway_requests_total counter") == 1
    assert parsed(text) == {
        ("catchment_gateway_requests_total", "200"): 3,
        ("catchment_gateway_requests_total", "500"): 1,
        ("catchment_gateway_in_flight",): 1,
    }
