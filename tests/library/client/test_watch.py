"""Watching: every round once and in time, the end last, and short outages survived."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from catchment.client import Client, JobChanged, Outage, RoundDone, WatchEvent, watch, watching
from catchment.errors import NotFound, Unreachable
from tests.library.client.server import TableServer, job_document, round_document

JOB = "GET /api/v1/namespaces/default/jobs/digits"
ROUNDS = f"{JOB}/rounds?run=1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SHORTEST_PAUSE_S", "LONGEST_PAUSE_S", "LONGEST_OUTAGE_PAUSE_S"):
        monkeypatch.setattr(watching, name, 0.01)


def events(client: Client, **more: float) -> list[WatchEvent]:
    return list(watch(client, "default", "digits", **more))  # type: ignore[arg-type]


def told(found: list[WatchEvent]) -> list[object]:
    """Rounds as (number, attempt), states as text."""
    return [
        (event.round.number, event.round.attempt) if isinstance(event, RoundDone) else event.job.state
        for event in found
        if not isinstance(event, Outage)
    ]


def test_a_job_that_has_ended_shows_all_its_rounds_and_then_its_end(
    server: TableServer, client: Client
) -> None:
    server.answers[JOB] = (200, job_document("FINISHED", progress=100))
    server.answers[ROUNDS] = (200, {"rounds": [round_document(number) for number in (1, 2, 3)]})
    assert told(events(client)) == [(1, 0), (2, 0), (3, 0), "FINISHED"]


def test_rounds_are_told_once_when_their_evaluation_is_there(server: TableServer, client: Client) -> None:
    first, open_ = round_document(1), round_document(3, "open")
    pending, done = round_document(2), round_document(2, evaluated=True)
    server.answers[JOB] = [
        (200, job_document("STARTING", run=0)),
        *[(200, job_document(progress=percent)) for percent in (25, 50, 50)],
        (200, job_document("FINISHED", progress=100)),
    ]
    last = round_document(3)
    server.answers[ROUNDS] = [
        (200, {"rounds": found})
        for found in ([first], [first, pending], [first, done, open_], [first, done, last])
    ]
    found = events(client)
    assert told(found) == ["STARTING", "RUNNING", (1, 0), "RUNNING", (2, 0), (3, 0), "FINISHED"]
    second = next(event for event in found if isinstance(event, RoundDone) and event.round.number == 2)
    assert second.round.metrics["accuracy"] == 0.9


def test_an_evaluation_that_never_comes_does_not_hold_a_round_back(
    server: TableServer, client: Client
) -> None:
    rounds = [round_document(2), round_document(3), round_document(4)]
    server.answers[JOB] = [(200, job_document()), (200, job_document("STOPPED"))]
    server.answers[ROUNDS] = [(200, {"rounds": rounds})]
    assert told(events(client)) == ["RUNNING", (2, 0), (3, 0), (4, 0), "STOPPED"]


def test_failed_attempts_are_told(server: TableServer, client: Client) -> None:
    rounds = [round_document(1, "failed"), round_document(1, "failed", attempt=1)]
    server.answers[JOB] = (200, job_document("FAILED", reason="round 1 failed"))
    server.answers[ROUNDS] = (200, {"rounds": rounds})
    assert told(events(client)) == [(1, 0), (1, 1), "FAILED"]


def test_a_short_outage_is_told_and_survived(server: TableServer, client: Client) -> None:
    away = (503, {"detail": "away"})
    server.answers[JOB] = [(200, job_document(run=0)), away, away, (200, job_document("FINISHED", run=0))]
    found = events(client)
    outages = [event for event in found if isinstance(event, Outage)]
    assert [event.reason for event in outages] == ["away", "away", None]
    assert all(one.seconds <= two.seconds for one, two in pairwise(outages))
    assert told(found) == ["RUNNING", "FINISHED"]


def test_a_long_outage_ends_the_watch(server: TableServer, client: Client) -> None:
    server.answers[JOB] = [(200, job_document(run=0)), (503, {"detail": "away for good"})]
    with pytest.raises(Unreachable, match="away for good"):
        events(client, tolerate_outage_s=0.05)


def test_a_server_that_never_answered_is_no_outage(server: TableServer, client: Client) -> None:
    server.answers[JOB] = (503, {"detail": "away"})
    with pytest.raises(Unreachable):
        events(client)
    assert len(server.asked) == 1


def test_a_deleted_job_ends_the_watch(server: TableServer, client: Client) -> None:
    server.answers[JOB] = [(200, job_document(run=0)), (404, {"reason": "no such job"})]
    with pytest.raises(NotFound, match="no such job"):
        events(client)


def test_it_can_be_stopped(server: TableServer, client: Client) -> None:
    server.answers[JOB] = (200, job_document(run=0))
    stop = threading.Event()
    following = watch(client, "default", "digits", stop=stop)
    assert isinstance(next(following), JobChanged)
    stop.set()
    assert list(following) == []
