"""GET /metrics of the API: who may read it, what is counted, and what is never a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api import figures
from catchment.access import create_token
from catchment.errors import Unreachable
from catchment.observe import trace
from catchment.observe.stored import StoreFigures
from catchment.settings import Settings
from tests.api.orders import REGISTRATION, digest_of, offer_work
from tests.api.serving import InProcess, RecordingLauncher, in_process

SITE = "/exchange/v1/sites/site-1"
POLL = {"session": "session-1", "free": 1, "wait_s": 0}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is an earlier test's look at the store."""
    monkeypatch.setattr(figures, "KEEP_S", 0.0)


def scraped(api: InProcess) -> dict[tuple[str, ...], float]:
    answer = api("GET", "/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_the_template_of_their_route(api: InProcess) -> None:
    api("GET", "/api/v1/namespaces/default/jobs/one")
    api("GET", "/api/v1/namespaces/default/jobs/two")
    found = scraped(api)
    route = "/api/v1/namespaces/{namespace}/jobs/{job_id:job_id}"
    assert found["catchment_api_requests_total", "GET", route, "404"] == 2
    assert found["catchment_api_request_seconds_count", route] == 2


def test_nothing_that_a_client_makes_up_becomes_a_label(api: InProcess) -> None:
    for number in range(20):
        api("GET", f"/scan/{number}")
        api(f"X{number}", "/api/v1/health")
    names = {key for key in scraped(api) if key[0] == "catchment_api_requests_total"}
    assert ("catchment_api_requests_total", "GET", "unmatched", "404") in names
    methods = {key[1] for key in names}
    assert methods == {"GET", "other"}
    assert len(names) < 5


def test_bytes_are_counted_up_and_down(api: InProcess) -> None:
    api("POST", f"{SITE}/register", json=REGISTRATION)
    weights, update = b"w" * 3000, b"u" * 5000
    digest = offer_work(api.store, "site-1", "w1", weights)
    api("POST", f"{SITE}/poll", json=POLL)
    assert api("GET", f"{SITE}/blobs/{digest}").content == weights
    headers = {"Content-Range": "bytes 0-4999/5000", "Update-Digest": digest_of(update)}
    assert api("PUT", f"{SITE}/work/w1/update", content=update, headers=headers).status_code == 204
    found = scraped(api)
    one = "/exchange/v1/sites/{site}"
    assert found["catchment_api_sent_bytes_total", f"{one}/blobs/{{digest}}"] == 3000
    assert found["catchment_api_received_bytes_total", f"{one}/work/{{work_id}}/update"] == 5000
    assert found["catchment_sites", "online"] == 1


def test_the_health_of_the_parts_is_told(api: InProcess) -> None:
    found = scraped(api)
    for name in ("catchment_supervisor_up", "catchment_store_up", "catchment_build_info"):
        assert [value for key, value in found.items() if key[0] == name] == [1], name
    assert found["catchment_caretaker_threads",] == 2
    assert found["catchment_database_connections", "in_use"] >= 0
    assert found["catchment_disk_free_bytes",] <= found["catchment_disk_size_bytes",]
    assert found["process_resident_memory_bytes",] > 10**7
    assert found["catchment_api_open_requests",] == 1, "this one"


def test_a_store_that_does_not_answer_leaves_the_rest(
    api: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise Unreachable("the database does not answer")

    monkeypatch.setattr(api.store.db, "read", fails)
    found = scraped(api)
    assert found["catchment_store_up",] == 0
    assert found["catchment_metrics_errors_total",] == 1
    assert not any(key[0] == "catchment_jobs" for key in found)


def test_the_store_is_asked_once_for_many(api: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "KEEP_S", 60.0)
    scraped(api)
    asked: list[object] = []
    look = StoreFigures.look

    def counted(these: StoreFigures) -> str:
        asked.append(these)
        return look(these)

    monkeypatch.setattr(StoreFigures, "look", counted)
    for _ in range(5):
        scraped(api)
    assert asked == []


@pytest.mark.parametrize(
    ("access", "role", "code"),
    [
        ("login", None, 401),
        ("login", "site", 403),
        ("login", "user", 200),
        ("login", "admin", 200),
        ("open", None, 200),
    ],
)
def test_who_may_read_it(
    home: Path, launcher: RecordingLauncher, access: Any, role: str | None, code: int
) -> None:
    settings = Settings(home=home, auth="tokens", supervise_s=3600, metrics_access=access)
    with in_process(settings, launcher) as api:
        headers = {}
        if role is not None:
            token = create_token(api.store, role, site="s" if role == "site" else None)
            headers = {"Authorization": f"Bearer {token}"}
        answer = api("GET", "/metrics", headers=headers)
        assert answer.status_code == code
        assert ("catchment_jobs" in answer.text) is (code == 200)


def test_others_of_the_process_can_add_their_part(api: InProcess) -> None:
    parts = api.context.scrape.parts
    parts.append(lambda: "# TYPE catchment_gateway_x counter\ncatchment_gateway_x 7\n")
    assert scraped(api)["catchment_gateway_x_total",] == 7 or scraped(api)["catchment_gateway_x",] == 7


def test_sites_that_do_not_say_that_they_know_traces_get_none(api: InProcess) -> None:
    """Their messages refuse keys that they do not know."""

    class Nowhere:
        def take(self, span: trace.Finished) -> None: ...
        def flush(self, timeout_s: float) -> None: ...

    api("POST", f"{SITE}/register", json=REGISTRATION)
    offer_work(api.store, "site-1", "w1", b"weights")
    before = trace.send_to(Nowhere())
    try:
        (order,) = api("POST", f"{SITE}/poll", json=POLL).json()["work"]
        assert "traceparent" not in order
        knows = {"Catchment-Accepts": "traceparent"}
        (order,) = api("POST", f"{SITE}/poll", json=POLL, headers=knows).json()["work"]
        assert trace.read(order["traceparent"]) is not None
    finally:
        trace.send_to(before)
    (order,) = api("POST", f"{SITE}/poll", json=POLL).json()["work"]
    assert "traceparent" not in order
