"""A job's log over HTTP: pages, and streams of the process that users run."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from catchment.access import create_token, revoke_token
from catchment.client import Client, LogEnd, LogLine, Outage, follow_logs
from catchment.errors import NotFound, Unauthorized
from catchment.jobs import lifecycle, log, purge, rows
from catchment.jobs.log import Line
from catchment.jobs.states import JobState
from catchment.settings import Settings
from catchment.store import Store, open_store
from tests.api.serving import ROOT, ApiProcess, InProcess, api_environment, api_process
from tests.conftest import free_port

JOBS = "/api/v1/namespaces/default/jobs"
LOGS = f"{JOBS}/digits/logs"
Body = Callable[..., dict[str, Any]]


def write(store: Store, *lines: Line) -> str:
    uid = log.uid_of(store, "default", "digits")
    store.db.write(lambda tx: log.write(tx, uid, *lines))
    return uid


def test_pages_of_a_log(api: InProcess, job: Body) -> None:
    api("POST", JOBS, json=job())
    write(api.store, *(Line(f"line {n}", source="site-1", run=1, round=n) for n in (1, 2, 3)))
    answer = api("GET", LOGS).json()
    assert [line["text"] for line in answer["lines"]] == ["line 1", "line 2", "line 3"]
    assert (answer["next"], answer["more"]) == (3, False)
    first = answer["lines"][0]
    assert {**first, "at": ""} == {
        **{"number": 1, "at": "", "level": "info", "source": "site-1", "run": 1, "round": 1},
        "text": "line 1",
    }
    page = api("GET", f"{LOGS}?after=0&limit=2").json()
    assert [line["number"] for line in page["lines"]] == [1, 2]
    assert (page["next"], page["more"]) == (2, True)
    assert [line["number"] for line in api("GET", f"{LOGS}?round=2").json()["lines"]] == [2]
    assert api("GET", f"{LOGS}?site=site-2").json()["lines"] == []


@pytest.mark.parametrize("query", ["round=0", "limit=0", "limit=10001", "after=-1", "after=x", "site=No"])
def test_a_wrong_parameter_is_named(api: InProcess, job: Body, query: str) -> None:
    api("POST", JOBS, json=job())
    answer = api("GET", f"{LOGS}?{query}")
    assert answer.status_code == 400
    assert answer.json()["field"] == query.partition("=")[0]


def test_an_unknown_job_has_no_log(api: InProcess) -> None:
    for accept in ("application/json", "text/event-stream"):
        answer = api("GET", LOGS, headers={"Accept": accept})
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_wrong_last_event_id_is_refused(api: InProcess, job: Body) -> None:
    api("POST", JOBS, json=job())
    answer = api("GET", LOGS, headers={"Accept": "text/event-stream", "Last-Event-ID": "-1"})
    assert answer.status_code == 400
    assert answer.json()["field"] == "Last-Event-ID"


# What follows goes over real sockets, to `python -m api`.


@pytest.fixture
def running(home: Path) -> Iterator[ApiProcess]:
    with api_process(home, free_port(), CATCHMENT_SUPERVISE_S="3600") as process:
        yield process


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    opened = open_store(Settings(home=home))
    yield opened
    opened.close()


@pytest.fixture
def uid(store: Store, job: Body) -> str:
    """A job that runs, as far as the store knows."""
    lifecycle.create_job(store, "default", job())
    uid = log.uid_of(store, "default", "digits")
    store.db.write(lambda tx: rows.change(tx, uid, state=JobState.RUNNING))
    return uid


@contextmanager
def events(url: str, path: str = LOGS, **headers: str) -> Iterator[Iterator[dict[str, str]]]:
    """Events of a stream as they arrive, each with `event`, `id` and `data`."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    try:
        connection.request("GET", path, headers={"Accept": "text/event-stream", **headers})
        response = connection.getresponse()
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield _parsed(response)
    finally:
        connection.close()


def _parsed(response: http.client.HTTPResponse) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    while line := response.readline().decode():
        name, _, value = line.rstrip("\n").partition(": ")
        if line != "\n":
            event[name] = value
        elif "data" in event:
            yield event
            event = {}
        else:
            event = {}


def text_of(event: dict[str, str]) -> str:
    return str(json.loads(event["data"])["text"])


def test_lines_come_as_they_are_written_until_the_job_ends(
    running: ApiProcess, store: Store, uid: str
) -> None:
    write(store, Line("before"))
    with events(running.url) as stream:
        assert text_of(next(stream)) == "before"
        began = time.monotonic()
        write(store, Line("now"))
        assert text_of(next(stream)) == "now"
        assert time.monotonic() - began < 2
        store.db.write(lambda tx: rows.end(tx, uid, JobState.FAILED, "a reason"))
        end = next(stream)
        assert end["event"] == "end"
        assert json.loads(end["data"]) == {"state": "FAILED", "reason": "a reason"}
        assert next(stream, None) is None


def test_a_stream_goes_on_after_the_last_event(running: ApiProcess, store: Store, uid: str) -> None:
    write(store, *(Line(str(number)) for number in range(1, 6)))
    with events(running.url) as stream:
        seen = [next(stream)["id"] for _ in range(3)]
    with events(running.url, **{"Last-Event-ID": seen[-1]}) as stream:
        assert [text_of(next(stream)) for _ in range(2)] == ["4", "5"]
        write(store, Line("6"))
        assert next(stream)["id"] == "6"
    with events(running.url, f"{LOGS}?after=4") as stream:
        assert next(stream)["id"] == "5"


def test_filters_hold_in_a_stream(running: ApiProcess, store: Store, uid: str) -> None:
    with events(running.url, f"{LOGS}?round=2&site=site-1") as stream:
        write(store, Line("no", round=2), Line("no", source="site-1", round=1))
        write(store, Line("yes", source="site-1", round=2))
        assert text_of(next(stream)) == "yes"


def test_ten_thousand_lines_come_whole_and_in_order(running: ApiProcess, store: Store, uid: str) -> None:
    write(store, *(Line(f"line {number} ü\0") for number in range(10_000)))
    store.db.write(lambda tx: rows.end(tx, uid, JobState.FINISHED))
    with events(running.url) as stream:
        found = list(stream)
    assert [int(event["id"]) for event in found[:-1]] == list(range(1, 10_001))
    assert text_of(found[-2]) == "line 9999 ü"
    assert found[-1]["event"] == "end"


def test_a_deleted_jobs_stream_ends(running: ApiProcess, store: Store, uid: str) -> None:
    with events(running.url) as stream:
        write(store, Line("a"))
        assert text_of(next(stream)) == "a"
        lifecycle.request_delete(store, "default", "digits")
        purge.purge_job(store, uid)  # as the supervisor does for a job that somebody works on
        end = next(event for event in stream if event["event"] == "end")
    assert json.loads(end["data"]) == {"state": None, "reason": ""}


def test_open_streams_do_not_keep_the_process(running: ApiProcess, store: Store, uid: str) -> None:
    with events(running.url) as stream:
        write(store, Line("a"))
        next(stream)
        code, seconds = running.terminate(10)
        assert next(stream, None) is None
    assert code == 0
    assert seconds < 5


def test_clients_that_go_away_leave_nothing_behind(running: ApiProcess, store: Store, uid: str) -> None:
    write(store, Line("a"))

    def sockets() -> int:
        folder = Path(f"/proc/{running.process.pid}/fd")
        return sum(_is_socket(path) for path in folder.iterdir())

    with events(running.url) as stream:
        next(stream)
    before = sockets()
    for _ in range(20):
        with events(running.url) as stream:
            next(stream)
    deadline = time.monotonic() + 20
    while sockets() > before + 2:
        assert time.monotonic() < deadline, sockets()
        write(store, Line("anybody there?"))
        time.sleep(0.05)


def _is_socket(path: Path) -> bool:
    try:
        return str(path.readlink()).startswith("socket:")
    except FileNotFoundError:
        return False


def test_a_revoked_token_ends_the_stream(home: Path, store: Store, uid: str) -> None:
    create_token(store, "admin")
    token = create_token(store, "user")
    write(store, Line("a"))
    with api_process(home, free_port(), CATCHMENT_AUTH="tokens", CATCHMENT_SUPERVISE_S="3600") as running:
        with pytest.raises(Unauthorized):
            list(Client(running.url).log_events("default", "digits"))
        with events(running.url, Authorization=f"Bearer {token}") as stream:
            next(stream)
            revoke_token(store, token.split("_")[1])
            began = time.monotonic()
            assert next(stream, None) is None
    assert time.monotonic() - began < 15


def test_the_client_follows_across_a_restart(home: Path, store: Store, uid: str) -> None:
    port = free_port()
    seen: list[LogLine | LogEnd | Outage] = []
    changed = threading.Condition()

    def follow(client: Client) -> None:
        for event in follow_logs(client, "default", "digits", tolerate_outage_s=60):
            with changed:
                seen.append(event)
                changed.notify_all()

    def await_text(text: str) -> None:
        with changed:
            found = changed.wait_for(
                lambda: any(isinstance(each, LogLine) and each.text == text for each in seen), 30
            )
            assert found, seen

    with Client(f"http://127.0.0.1:{port}") as client:
        follower = threading.Thread(target=follow, args=(client,), daemon=True)
        with api_process(home, port, CATCHMENT_SUPERVISE_S="3600") as running:
            write(store, Line("one"))
            follower.start()
            await_text("one")
            running.process.send_signal(signal.SIGKILL)
            running.process.wait(10)
        write(store, Line("two"))
        with api_process(home, port, CATCHMENT_SUPERVISE_S="3600"):
            await_text("two")
            store.db.write(lambda tx: rows.end(tx, uid, JobState.FINISHED))
            follower.join(20)
    assert not follower.is_alive()
    assert [each.text for each in seen if isinstance(each, LogLine)] == ["one", "two"]
    assert seen[-1] == LogEnd("FINISHED", "")
    assert any(isinstance(each, Outage) and each.reason for each in seen)
    assert any(isinstance(each, Outage) and each.reason is None for each in seen)


def test_following_a_job_that_is_not_there(running: ApiProcess) -> None:
    with Client(running.url) as client, pytest.raises(NotFound):
        list(follow_logs(client, "default", "nothing"))


def command(running: ApiProcess, home: Path, *arguments: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "catchment.cli", "job", *arguments, "--server", running.url]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, cwd=ROOT, env=api_environment(home), **pipes)


def test_the_command_shows_and_follows_a_log(running: ApiProcess, home: Path, store: Store, uid: str) -> None:
    write(store, Line("early"), Line("printed", "error", "site-1", 1, 2))
    shown = command(running, home, "logs", "digits")
    out, _ = shown.communicate(timeout=30)
    assert [line.split("  ", 1)[1] for line in out.splitlines()] == [
        "           coordinator  early",
        "round   2  site-1  error: printed",
    ]
    following = command(running, home, "logs", "digits", "--follow", "--tail", "1", "--json")
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["text"] == "printed"
    write(store, Line("live"))
    assert json.loads(following.stdout.readline())["text"] == "live"
    store.db.write(lambda tx: rows.end(tx, uid, JobState.FINISHED))
    assert following.communicate(timeout=30)[0] == ""
    assert following.returncode == 0


def test_watch_hears_of_the_end_at_once_and_asks_seldom(
    running: ApiProcess, home: Path, store: Store, uid: str
) -> None:
    write(store, Line("early"))
    watching = command(running, home, "watch", "digits", "--json")
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["state"] == "RUNNING"
    store.db.write(lambda tx: rows.end(tx, uid, JobState.FAILED, "because"))
    write(store, Line("FAILED: because", "error"))
    out, _ = watching.communicate(timeout=30)
    assert json.loads(out.splitlines()[-1])["event"] == "end"
    assert watching.returncode == 1
