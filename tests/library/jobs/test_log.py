"""A job's log: numbers without gaps, bounds, what is written when, and what never is."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from catchment.access import create_token
from catchment.errors import NotFound, RoundFailed
from catchment.jobs import lifecycle, log, purge
from catchment.jobs.log import Line
from catchment.jobs.states import JobState
from catchment.rounds import run
from catchment.rounds import select as selecting
from catchment.store import Store
from catchment.store.schema import job_logs, metadata
from catchment.wire.messages import WorkOrder, WorkResult
from tests.library.rounds.test_run import begin, drive, one_round
from tests.thread_sites import job


@pytest.fixture
def uid(store: Store) -> str:
    lifecycle.create_job(store, "default", job())
    return log.uid_of(store, "default", "j")


def write(store: Store, uid: str, *lines: Line) -> None:
    store.db.write(lambda tx: log.write(tx, uid, *lines))


def texts(store: Store, uid: str, **wanted: Any) -> list[str]:
    return [line["text"] for line in log.read(store, uid, **wanted).lines]


def test_the_migrations_make_the_schema(store: Store) -> None:
    with store.db.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_pages_are_read_by_number_newest_last(store: Store, uid: str) -> None:
    write(store, uid, *(Line(str(number)) for number in range(1, 26)))
    assert texts(store, uid, limit=3) == ["23", "24", "25"]
    seen, after, more = [], 0, True
    while more:
        page = log.read(store, uid, after=after, limit=10)
        seen += [line["number"] for line in page.lines]
        after, more = page.next, page.more
    assert seen == list(range(1, 26))
    assert log.read(store, uid, after=25).lines == ()
    assert log.read(store, uid, after=25).next == 25


def test_filters_for_round_and_source(store: Store, uid: str) -> None:
    write(
        store,
        uid,
        Line("a", source="site-1", round=1),
        Line("b", source="site-2", round=1),
        Line("c", round=1),
        Line("d", source="site-1", round=2),
        Line("e"),
    )
    assert texts(store, uid, round_number=1) == ["a", "b", "c"]
    assert texts(store, uid, source="site-1") == ["a", "d"]
    assert texts(store, uid, source="coordinator") == ["c", "e"]
    page = log.read(store, uid, after=0, round_number=1, source="site-1")
    assert [line["text"] for line in page.lines] == ["a"]
    assert page.next == 5, "lines that the filter leaves out are not looked at again"


def test_whoever_asks_for_what_comes_next_misses_nothing(store: Store, uid: str) -> None:
    writers = [
        threading.Thread(target=lambda: [write(store, uid, Line("x"), Line("y")) for _ in range(15)])
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    seen: list[int] = []
    after = 0
    while len(seen) < 120:
        ticket = store.db.signals.ticket(f"job:{uid}")
        page = log.read(store, uid, after=after)
        seen += [line["number"] for line in page.lines]
        after = page.next
        if not page.lines:
            store.db.signals.wait(ticket, 5)
            assert any(writer.is_alive() for writer in writers) or log.read(store, uid, after=after).lines
    for writer in writers:
        writer.join()
    assert seen == list(range(1, 121))


def test_a_job_keeps_its_newest_ten_thousand_lines(store: Store, uid: str) -> None:
    for start in range(0, 10_500, 2500):
        write(store, uid, *(Line(str(number)) for number in range(start, start + 2500)))
    count = store.db.read(lambda tx: tx.execute(select(func.count()).select_from(job_logs)).scalar())
    assert count == 10_000
    lines = log.read(store, uid, after=0, limit=10_000).lines
    assert [lines[0]["number"], lines[-1]["number"]] == [2501, 12_500]


NASTY = [
    "a\0b",
    "\0",
    "\x1b[31mred\x1b[0m",
    "two\nlines",
    "half \ud800 a character",
    "x" * 100_000,
    "ü\u2028é",
]


@pytest.mark.parametrize("nasty", NASTY)
def test_any_text_becomes_one_storable_line(store: Store, uid: str, nasty: str) -> None:
    write(store, uid, Line(nasty))
    (found,) = texts(store, uid)
    assert len(found) <= log.MAX_CHARACTERS
    assert not set(found) & set("\0\n\x1b\u2028")


@given(st.text())
def test_a_cleaned_line_has_no_ends_of_lines(words: str) -> None:
    assert len(log.clean(words).splitlines()) <= 1


def test_a_token_that_a_script_prints_does_not_show(store: Store, uid: str) -> None:
    token = create_token(store, "site", site="site-1")
    write(store, uid, Line(f"Authorization: Bearer {token}, sent"))
    assert texts(store, uid) == ["Authorization: Bearer catchment_***, sent"]


def test_the_log_goes_with_the_job(store: Store, uid: str) -> None:
    write(store, uid, Line("a"))
    lifecycle.request_delete(store, "default", "j")
    purge.purge_job(store, uid)
    assert log.read(store, uid, after=7) == log.Page((), 7, False, None)
    assert log.read(store, uid).complete
    write(store, uid, Line("too late"))
    assert store.db.read(lambda tx: tx.execute(select(func.count()).select_from(job_logs)).scalar()) == 0
    with pytest.raises(NotFound):
        log.uid_of(store, "default", "j")


def test_a_runs_log_tells_what_happened(store: Store, make_site: Any) -> None:
    make_site("a")
    make_site("b")
    claim = begin(store, job())
    drive(store, claim)
    lines = log.read(store, claim.uid, after=0).lines
    words = [line["text"] for line in lines]
    assert words[0] == "started: run 1"
    assert words[1].startswith("RUNNING, in flow run flow-run")
    assert words[2] == "initial weights read from model_path 'models/init.safetensors'"
    assert words[3].startswith("cohort of 2: a, b (")
    assert words[-1].startswith("FINISHED after 3 rounds, weights sha256:")
    about_two = [(line["source"], line["text"]) for line in lines if line["round"] == 2]
    assert ("coordinator", "committed, 2 updates: loss 0.5, 20 samples") in about_two
    assert ("coordinator", "evaluated by 2 of 2 sites: accuracy 0.02, loss 0.5, 8 samples") in about_two
    assert any(source == "a" and told.startswith("trained in ") for source, told in about_two)
    assert any("checkpoint_v1 saved as out/j_V1/" in told for told in words)
    assert {line["run"] for line in lines} == {1}
    page = log.read(store, claim.uid)
    assert (page.state, page.complete) == (JobState.FINISHED, True)


def fails(order: WorkOrder, _weights: Any) -> WorkResult:
    printed = "".join(f"line {number}\n" for number in range(30)) + "50%\r100%\nTraceback\0\nKeyError: 'x'\n"
    return WorkResult(status="failed", reason="main.py ended with exit code 1", log_tail=printed)


def test_what_a_failed_script_printed_is_kept_whole_and_the_reasons(store: Store, make_site: Any) -> None:
    make_site("a")
    make_site("b", train=fails)
    claim = begin(store, job())
    with pytest.raises(RoundFailed):
        one_round(store, claim, 1)
    run.fail_run(store, claim, "round 1 failed")
    printed = log.read(store, claim.uid, source="b").lines
    first = [line["text"] for line in printed][: len(printed) // 2]
    assert first == [
        *(f"line {number}" for number in range(30)),
        "100%",
        "Traceback",
        "KeyError: 'x'",
        "train failed: main.py ended with exit code 1",
    ]
    assert {line["level"] for line in printed} == {"error"}
    told = texts(store, claim.uid, source="coordinator")
    assert any(line.startswith("round 1 has ") and "b failed (main.py ended" in line for line in told)
    assert any(line.startswith("cohort of 2, attempt 2: ") for line in told)
    assert told[-1] == "FAILED: round 1 failed"


def chatty(order: WorkOrder, weights: Any) -> WorkResult:
    return WorkResult(
        status="done",
        metrics={"accuracy": 0.5},
        log_tail="".join(f"line {n}\n" for n in range(30)),
        seconds=1,
    )


def test_what_a_good_script_printed_is_kept_short(store: Store, make_site: Any) -> None:
    make_site("a", evaluate=chatty)
    make_site("b")
    claim = begin(store, job(hyper_parameters={"max_round_num": 1}))
    drive(store, claim)
    printed = [line for line in texts(store, claim.uid, source="a") if not line.startswith("trained")]
    said = "reported no sample_num, counted as 1"
    assert printed == [*(f"line {n}" for n in range(25, 30)), "evaluated in 1.00 s: accuracy 0.5", said]


def test_a_wait_for_sites_and_why_is_said_once(store: Store, make_site: Any) -> None:
    make_site("a")
    claim = begin(store, job())
    for _ in range(3):
        store.db.write(lambda tx: selecting._try_to_select(store, tx, claim, 1))
    told = [line for line in texts(store, claim.uid) if "waits for" in line]
    assert told == ["round 1 waits for 2 sites that fit, 1 there: a"]


def test_stop_and_what_follows_are_said(store: Store, make_site: Any) -> None:
    make_site("a")
    make_site("b")
    claim = begin(store, job())
    one_round(store, claim, 1)
    lifecycle.request_stop(store, "default", "j")
    run.stop_run(store, claim)
    lifecycle.request_start(store, "default", "j")
    told = texts(store, claim.uid, source="coordinator")[-3:]
    assert told == ["stop was asked for", "STOPPED", "started: run 1 goes on, 33 % are done"]
