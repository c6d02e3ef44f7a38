"""Figures: what is added is read again, and percentiles are right to their buckets."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.errors import Unreachable
from catchment.serving.figures import BUCKETS_S, Figures, add, bucket_of, quantile, read
from catchment.serving.gateway.counting import Counting, FiguresWriter
from catchment.serving.gateway.table import Place
from catchment.store import Store
from tests.api.serving_rows import add_serving

PLACE = Place("u", "m-default-r1", 0, "127.0.0.1", 1)


@given(st.lists(st.floats(1.1e-4, 90), min_size=1, max_size=200), st.sampled_from([0.5, 0.99]))
def test_percentiles_are_right_to_a_bucket(latencies: list[float], share: float) -> None:
    buckets = [0] * (len(BUCKETS_S) + 1)
    for each in latencies:
        buckets[bucket_of(each)] += 1
    exact = float(np.quantile(latencies, share, method="inverted_cdf"))
    assert exact / 1.34 <= quantile(buckets, share) <= exact * 1.34


def test_there_is_no_percentile_of_nothing() -> None:
    assert (Figures().p50_s, Figures().p99_s) == (0.0, 0.0)


def test_what_happened_between_two_readings_is_their_difference() -> None:
    counting = Counting()
    counting.answered(("n", "m"), PLACE, 200, 0.01)
    earlier = counting.take()["u", PLACE.key]
    counting.answered(("n", "m"), PLACE, 500, 0.02)
    counting.compared("u", PLACE.key, agreed=False)
    later = earlier + counting.take()["u", PLACE.key]
    between = later - earlier
    assert (between.requests, between.errors, between.compared, between.disagreed) == (1, 1, 1, 1)
    assert 0.017 < between.p50_s < 0.024
    assert abs(later.seconds - 0.03) < 1e-9


def test_figures_of_many_gateways_add_up(store: Store) -> None:
    uid = add_serving(store, "m", {})
    one = Figures(3, 1, 0.5, (3, *[0] * len(BUCKETS_S)), 2, 1)
    seen = {(uid, "a"): one, (uid, "b"): one, ("gone", "a"): one}

    def write(gateway: str) -> None:
        store.db.write(lambda tx: add(tx, gateway, seen))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, ["x", "y"] * 6))
    found = store.db.read(lambda tx: read(tx, uid))
    assert found.keys() == {"a", "b"}
    assert (found["a"].requests, found["a"].errors, found["a"].compared, found["a"].disagreed) == (
        36,
        12,
        24,
        12,
    )
    assert found["a"].buckets[0] == 36
    assert abs(found["a"].seconds - 6) < 1e-9
    assert store.db.read(lambda tx: read(tx, "gone")) == {}


def test_a_writer_writes_while_it_runs_and_when_it_ends(store: Store) -> None:
    uid = add_serving(store, "m", {})
    counting = Counting()
    writer = FiguresWriter(store, counting, "g")
    writer.start()
    place = PLACE._replace(uid=uid)
    counting.answered(("default", "m"), place, 200, 0.01)
    written = threading.Event()
    for _ in range(100):
        if store.db.read(lambda tx: read(tx, uid)):
            written.set()
            break
        written.wait(0.1)
    assert written.is_set()
    counting.answered(("default", "m"), place, 200, 0.01)
    writer.stop()
    assert store.db.read(lambda tx: read(tx, uid))[place.key].requests == 2


def test_what_cannot_be_written_is_written_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = add_serving(store, "m", {})
    counting = Counting()
    writer = FiguresWriter(store, counting, "g")
    place = PLACE._replace(uid=uid)
    counting.answered(("default", "m"), place, 200, 0.01)
    with monkeypatch.context() as patched:

        def refuse(step: object) -> None:
            raise Unreachable("the database does not answer")

        patched.setattr(store.db, "write", refuse)
        writer.flush()
    counting.answered(("default", "m"), place, 200, 0.01)
    writer.flush()
    assert store.db.read(lambda tx: read(tx, uid))[place.key].requests == 2


def test_counters_name_workloads_and_what_happened() -> None:
    counting = Counting()
    counting.answered(("n", "m"), PLACE, 200, 0.01)
    counting.broke(("n", "m"), PLACE, 0.01)
    counting.event("retried")
    values = {(each.name, tuple(each.labels.values())): each.value for each in counting.samples()}
    assert values["catchment_gateway_requests_total", ("n", "m", PLACE.key, "200")] == 1
    assert values["catchment_gateway_requests_total", ("n", "m", PLACE.key, "0")] == 1
    assert values["catchment_gateway_events_total", ("retried",)] == 1
    assert values["catchment_gateway_in_flight", ()] == 0
