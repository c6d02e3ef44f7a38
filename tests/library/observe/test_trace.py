"""Spans: which is below which, what they carry, and how they reach a collector."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.errors import SetupError
from catchment.observe import export, trace
from catchment.observe.trace import Finished, Place
from tests.conftest import wait_until
from tests.otlp import collector

HEX = "0123456789abcdef"


class Kept:
    def __init__(self) -> None:
        self.spans: list[Finished] = []

    def take(self, span: Finished) -> None:
        self.spans.append(span)

    def flush(self, timeout_s: float) -> None: ...

    def only(self, name: str) -> Finished:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@pytest.fixture
def kept() -> Iterator[Kept]:
    made = Kept()
    before = trace.send_to(made)
    yield made
    trace.send_to(before)


def test_a_process_that_does_not_trace_has_no_span() -> None:
    before = trace.send_to(None)
    try:
        with trace.span("x", job="uid", round=1) as here, trace.within(trace.of("uid")):
            here.note(more=1)
            here.began(0.0)
            assert trace.current() is None
        assert here is trace.NOTHING
    finally:
        trace.send_to(before)


def test_all_processes_find_the_same_places() -> None:
    code = "from catchment.observe import trace; print(trace.of_round('uid', 2, 7).traceparent)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == trace.of_round("uid", 2, 7).traceparent


def test_places_differ_where_what_they_stand_for_does() -> None:
    places = [
        trace.of("a"),
        trace.of("b"),
        trace.of_flow("a", "1"),
        trace.of_round("a", 1, 12),
        trace.of_round("a", 11, 2),
        trace.of_round("a", 1, 12).below("work", "w"),
    ]
    assert len({place.span_id for place in places}) == len(places)
    assert len({place.trace_id for place in places}) == 2


@given(st.text(HEX, min_size=32, max_size=32), st.text(HEX, min_size=16, max_size=16))
def test_a_traceparent_is_read_back(trace_id: str, span_id: str) -> None:
    place = Place(trace_id, span_id)
    valid = set(trace_id) != {"0"} and set(span_id) != {"0"}
    assert trace.read(place.traceparent) == (place if valid else None)


@given(st.text())
def test_what_is_no_traceparent_is_none(text: str) -> None:
    assert trace.read(text) is None


def test_one_that_is_not_sampled_is_none() -> None:
    assert trace.read(f"00-{'ab' * 16}-{'cd' * 8}-00") is None


def test_a_span_is_below_the_one_around_it(kept: Kept) -> None:
    with trace.span("outer", job="uid"), trace.span("inner", round=3):
        pass
    outer, inner = kept.only("outer"), kept.only("inner")
    assert outer.parent == trace.of("uid")
    assert inner.parent == outer.place
    assert inner.attributes == {"catchment.round": 3}
    assert outer.began_ns <= inner.began_ns <= inner.ended_ns <= outer.ended_ns


def test_a_jobs_span_stays_in_its_trace_and_links_to_who_asked(kept: Kept) -> None:
    caller = Place("ab" * 16, "cd" * 8)
    with trace.span("request", parent=caller):
        with trace.span("create job", place=trace.of("uid")):
            pass
        with trace.span("make flow run", job="uid"):
            pass
    request = kept.only("request")
    assert request.place.trace_id == caller.trace_id
    created, made = kept.only("create job"), kept.only("make flow run")
    assert (created.parent, created.link) == (None, request.place)
    assert (made.parent, made.link) == (trace.of("uid"), request.place)


def test_an_error_is_told_by_its_kind_and_not_by_its_words(kept: Kept) -> None:
    with pytest.raises(ValueError, match="hunter2"), trace.span("x", job="uid"):
        raise ValueError("the password is hunter2")
    assert kept.only("x").error == "ValueError"
    assert "hunter2" not in str(kept.only("x"))


def test_a_span_may_have_begun_earlier_and_never_later(kept: Kept) -> None:
    with trace.span("x", job="uid") as here:
        here.began(1.5)
        here.began(2.5)
        here.began(None)
    assert kept.only("x").began_ns == 1_500_000_000


def test_a_span_that_goes_on_elsewhere_is_not_recorded_here(kept: Kept) -> None:
    with trace.span("x", job="uid") as here:
        here.drop()
    assert kept.spans == []
    assert trace.current() is None


def test_spans_reach_a_collector_with_the_ids_that_we_gave_them() -> None:
    with collector() as received:
        before = trace.send_to(None)
        try:
            assert export.configure("test", received.url, {})
            with trace.span("flow", place=trace.of_flow("u", "r"), parent=trace.of("u"), flow_run="r"):
                with trace.span("round", place=trace.of_round("u", 1, 2), round=2, share=0.5, masked=True):
                    pass
                with pytest.raises(RuntimeError), trace.span("broken"):
                    raise RuntimeError("secret words")
            trace.flush(10)
        finally:
            trace.send_to(before)
        wait_until(lambda: len(received.spans) == 3, timeout_s=10, what="three spans")
        (flow,), (inner,), (broken,) = map(received.named, ("flow", "round", "broken"))
        assert (flow.trace_id, flow.span_id) == (
            trace.of("u").trace_id,
            trace.of_flow("u", "r").span_id,
        )
        assert flow.parent_id == trace.of("u").span_id
        assert (inner.span_id, inner.parent_id) == (trace.of_round("u", 1, 2).span_id, flow.span_id)
        wanted = {"catchment.round": 2, "catchment.share": 0.5, "catchment.masked": True}
        assert inner.attributes == wanted
        assert (broken.failed, broken.error) == (True, "RuntimeError")
        assert flow.service == "catchment-test"
        assert not any(b"secret words" in body for body in received.bodies)


def test_a_forked_child_sends_its_own_spans() -> None:
    """As flow runs do, which are forked from a process that traces; in a process of its own."""
    code = """
import os, sys
from catchment.observe import export, trace
export.configure("test", sys.argv[1], {})
with trace.span("before", job="u"):
    pass
pid = os.fork()
if pid == 0:
    with trace.span("child", job="u"):
        pass
    trace.flush(10)
    os._exit(0)
os.waitpid(pid, 0)
with trace.span("after", job="u"):
    pass
trace.flush(10)
"""
    with collector() as received:
        # Forking beside the sender's thread is what is tried here.
        subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, received.url],
            timeout=60,
            check=True,
        )
        wait_until(lambda: len(received.spans) >= 3, timeout_s=10, what="three spans")
        assert sorted(span.name for span in received.spans) == ["after", "before", "child"]


def test_a_collector_that_is_away_holds_nobody_up() -> None:
    code = """
import time
from catchment.observe import export, trace
export.configure("test", "http://127.0.0.1:9", {})
began = time.monotonic()
for _ in range(100):
    with trace.span("x", job="u"):
        pass
spent = time.monotonic() - began
trace.flush(1.0)
print(spent, time.monotonic() - began)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    spans_s, all_s = map(float, done.stdout.split())
    assert spans_s < 5
    assert all_s < spans_s + 5


@pytest.mark.parametrize(
    ("endpoint", "environment", "url"),
    [
        ("", {}, ""),
        ("http://here:4318", {}, "http://here:4318/v1/traces"),
        ("http://here:4318/", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://there"}, "http://here:4318/v1/traces"),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://there:4318"}, "http://there:4318/v1/traces"),
        ("", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://there/x"}, "https://there/x"),
    ],
)
def test_where_spans_go(endpoint: str, environment: dict[str, str], url: str) -> None:
    assert export.address(endpoint, environment) == url


@pytest.mark.parametrize("endpoint", ["here:4318", "grpc://here:4317", "http://user:pw@here:4318"])
def test_an_address_that_is_none_is_refused_by_name(endpoint: str) -> None:
    with pytest.raises(SetupError, match="CATCHMENT_OTLP_ENDPOINT") as refused:
        export.address(endpoint, {})
    assert "pw" not in str(refused.value)


def test_nothing_is_traced_where_opentelemetry_is_switched_off() -> None:
    assert not export.configure("test", "http://here:4318", {"OTEL_SDK_DISABLED": "true"})


def test_without_the_package_an_endpoint_is_refused_and_none_is_fine() -> None:
    """In a process that cannot import it, as after a base install."""
    code = """
import sys
sys.modules["opentelemetry"] = None
from catchment.errors import SetupError
from catchment.observe import export
assert not export.configure("test", "", {})
try:
    export.configure("test", "http://here:4318", {})
except SetupError as error:
    assert "catchment[observe]" in str(error), error
else:
    raise AssertionError("no error")
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True, env={**os.environ})


@pytest.mark.parametrize(("ratio", "seen"), [("0", 0), ("1", 64)])
def test_processes_sample_whole_traces_alike(ratio: str, seen: int) -> None:
    environment = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio}
    with collector() as received:
        sender = export.Exporter("test", f"{received.url}/v1/traces", environment)
        before = trace.send_to(sender)
        try:
            for number in range(64):
                with trace.span("x", job=str(number)):
                    pass
            trace.flush(10)
        finally:
            trace.send_to(before)
        wait_until(lambda: len(received.spans) == seen, timeout_s=10, what=f"{seen} spans")
