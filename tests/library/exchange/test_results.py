"""How a work ended: once, by its own site, in words that every database takes."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from catchment.errors import NotFound, TransferError
from catchment.exchange import results
from catchment.exchange.storable import storable
from catchment.rounds.admission import weighted_means
from catchment.store import Store
from catchment.wire.messages import Blob, WorkResult
from tests.library.exchange.offers import DATA, close, digest_of, offer, send, work
from tests.library.store.fresh import BOTH, Clock


def uploaded() -> Blob:
    return Blob(digest=digest_of(DATA), size_bytes=len(DATA))


@BOTH
def test_a_result_is_delivered(store: Store, clock: Clock) -> None:
    work_id = offer(store, "a")
    send(store, "a", work_id)
    clock.forward(5)
    answer = results.finish_work(
        store,
        "a",
        work_id,
        WorkResult(status="done", update=uploaded(), metrics={"sample_num": 10}, log_tail="ok", seconds=4.5),
    )
    row = work(store, work_id)
    assert answer.accepted
    assert (row.state, row.metrics, row.log_tail, row.seconds) == (
        "delivered",
        {"sample_num": 10},
        "ok",
        4.5,
    )
    assert row.finished_at == clock()


@BOTH
def test_a_failure_is_told_with_its_reason(store: Store) -> None:
    first, second = offer(store, "a"), offer(store, "a")
    results.finish_work(store, "a", first, WorkResult(status="failed", reason="exit code 1", log_tail="Tr"))
    results.finish_work(store, "a", second, WorkResult(status="failed"))
    assert (work(store, first).state, work(store, first).reason) == ("failed", "exit code 1")
    assert work(store, second).reason == "the site gave no reason"


def test_twice_is_once(store: Store) -> None:
    work_id = offer(store, "a")
    send(store, "a", work_id)
    first = WorkResult(status="done", update=uploaded(), metrics={"sample_num": 10})
    assert results.finish_work(store, "a", work_id, first).accepted
    again = WorkResult(status="failed", reason="changed my mind", metrics={"sample_num": 99})
    answer = results.finish_work(store, "a", work_id, again)
    assert answer.accepted
    assert "before" in answer.reason
    assert (work(store, work_id).state, work(store, work_id).metrics) == ("delivered", {"sample_num": 10})


@pytest.mark.parametrize("state", ["admitted", "rejected", "failed"])
def test_a_repeated_result_of_decided_work_is_accepted(store: Store, state: str) -> None:
    work_id = offer(store, "a", state=state)
    assert results.finish_work(store, "a", work_id, WorkResult(status="failed")).accepted
    assert work(store, work_id).state == state


@pytest.mark.parametrize("state", ["cancelled", "late", "lost"])
def test_too_late_counts_for_nothing_and_is_answered(store: Store, state: str) -> None:
    work_id = offer(store, "a")
    close(store, work_id, state, "the round closed without it")
    answer = results.finish_work(store, "a", work_id, WorkResult(status="failed"))
    assert (answer.accepted, answer.reason) == (False, "the round closed without it")
    assert work(store, work_id).state == state


def test_another_sites_work_is_not_found(store: Store) -> None:
    work_id = offer(store, "a")
    with pytest.raises(NotFound):
        results.finish_work(store, "b", work_id, WorkResult(status="done"))
    assert work(store, work_id).state == "offered"


def test_an_update_that_did_not_arrive_is_asked_for(store: Store) -> None:
    work_id = offer(store, "a")
    with pytest.raises(TransferError, match="has not arrived; upload it first"):
        results.finish_work(store, "a", work_id, WorkResult(status="done", update=uploaded()))
    send(store, "a", work_id, DATA[:100])
    with pytest.raises(TransferError):
        results.finish_work(store, "a", work_id, WorkResult(status="done", update=uploaded()))
    send(store, "a", work_id, DATA[100:], start=100)
    other = Blob(digest=digest_of(b"never sent"), size_bytes=10)
    with pytest.raises(TransferError):
        results.finish_work(store, "a", work_id, WorkResult(status="done", update=other))
    assert results.finish_work(store, "a", work_id, WorkResult(status="done", update=uploaded())).accepted


def test_a_failed_work_needs_no_update(store: Store) -> None:
    work_id = offer(store, "a")
    assert results.finish_work(store, "a", work_id, WorkResult(status="failed", update=uploaded())).accepted
    assert work(store, work_id).state == "failed"


NASTY: dict[str, Any] = {
    "nan": float("nan"),
    "inf": -math.inf,
    "nul": "a\x00b",
    "\x00key": 1,
    "digits": 10**4000,
    "negative": -(10**400),
    "max": 2**63,
    "huge": "x" * 1_000_000,
    "deep": {"list": [{"x": [float("nan"), "\x00"]}]},
    "umlaut": "ä \U0001f600",
    "nothing": None,
    "truth": True,
    "": "",
}


@BOTH
def test_whatever_a_site_reports_can_be_stored_and_shown(store: Store) -> None:
    work_id = offer(store, "a")
    result = WorkResult(
        status="done",
        metrics=NASTY,
        parameters=NASTY,
        reason="a\x00b",
        log_tail="\x00\x1b[31m" + "x" * 19_000,
    )
    assert results.finish_work(store, "a", work_id, result).accepted
    row = work(store, work_id)
    assert (row.metrics["nan"], row.metrics["inf"], row.metrics["nul"]) == ("nan", "-inf", "ab")
    assert row.metrics["key"] == 1
    assert row.metrics["truth"] is True
    assert row.metrics["digits"] == "an integer of 13288 bits"
    assert row.metrics["deep"] == {"list": [{"x": ["nan", ""]}]}
    assert row.metrics == row.parameters
    assert row.reason == "ab"
    json.dumps(row.metrics, allow_nan=False)


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -1.0])
def test_no_work_takes_an_infinite_or_negative_time(seconds: float) -> None:
    with pytest.raises(ValidationError):
        WorkResult(status="done", seconds=seconds)
    with pytest.raises(ValidationError):
        WorkResult.model_validate_json(json.dumps({"status": "done", "seconds": seconds}))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_storable_values_are_plain_json_without_nul(value: Any) -> None:
    made = storable(value)
    assert "\\u0000" not in json.dumps(made, allow_nan=False)
    assert storable(made) == made


@given(
    st.lists(st.dictionaries(st.sampled_from(["loss", "accuracy"]), st.floats() | st.integers()), max_size=4)
)
def test_metrics_of_any_site_can_be_averaged(reports: list[dict[str, Any]]) -> None:
    stored = [{**storable(report), "sample_num": 2**40} for report in reports]
    json.dumps(weighted_means(stored), allow_nan=False)


def test_a_report_names_no_round_and_work_of_a_round_to_come_does_not_exist(store: Store) -> None:
    with pytest.raises(ValidationError, match="round"):
        WorkResult.model_validate({"status": "failed", "round": 7})
    with pytest.raises(NotFound):
        results.finish_work(store, "a", "0" * 32, WorkResult(status="failed"))
