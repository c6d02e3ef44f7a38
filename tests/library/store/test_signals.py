"""Wake-ups: heard by every process, after the commit, none of them lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from catchment.store import signals as module
from catchment.store.database import Database
from tests.conftest import wait_until

NOTIFY = """
import sys
from catchment.store.database import Database
database = Database(sys.argv[1])
database.write(lambda tx: (tx.execute(__import__("sqlalchemy").text("UPDATE beacon SET n = n + 1")),
                           tx.notify("far")))
database.close()
"""


@pytest.fixture
def pair(database_url: str) -> Iterator[tuple[Database, Database]]:
    """Two instances on one database, as two processes have them; each hears already."""
    here, there = Database(database_url), Database(database_url)
    here.write(lambda tx: tx.execute(text("CREATE TABLE beacon (n integer)")))
    here.write(lambda tx: tx.execute(text("INSERT INTO beacon VALUES (0)")))
    for database in (here, there):
        hears(database)
    yield here, there
    here.close()
    there.close()


def shout(database: Database, *topics: str) -> None:
    def step(tx: Any) -> None:
        tx.execute(text("UPDATE beacon SET n = n + 1"))
        tx.notify(*topics)

    database.write(step)


def hears(database: Database) -> None:
    """Wait until the background thread listens: it wakes everybody when it begins to."""
    assert database.signals.wait(database.signals.ticket("warm-up"), 5)


def quiet(database: Database, topic: str) -> module.Ticket:
    """A ticket after which nothing that was signalled before will still arrive."""

    def settled() -> module.Ticket | None:
        ticket = database.signals.ticket(topic)
        return None if database.signals.wait(ticket, 0.2) else ticket

    ticket = wait_until(settled, timeout_s=10, what="silence")
    assert isinstance(ticket, module.Ticket)
    return ticket


def test_another_instance_hears_it_soon(pair: tuple[Database, Database]) -> None:
    here, there = pair
    ticket = quiet(there, "news")
    begun = time.monotonic()
    shout(here, "news")
    assert there.signals.wait(ticket, 5)
    assert time.monotonic() - begun < 1.0


def test_another_process_is_heard(pair: tuple[Database, Database]) -> None:
    here, _ = pair
    ticket = quiet(here, "far")
    url = here.engine.url.render_as_string(hide_password=False)
    child = subprocess.Popen([sys.executable, "-c", NOTIFY, url])
    try:
        assert wait_until(lambda: here.signals.wait(ticket, 5), timeout_s=30, what="the other process")
    finally:
        assert child.wait(30) == 0


def test_nobody_hears_it_before_the_commit(pair: tuple[Database, Database]) -> None:
    here, there = pair
    ticket = quiet(there, "news")
    heard_early: list[bool] = []

    def step(tx: Any) -> None:
        tx.execute(text("UPDATE beacon SET n = 7"))
        tx.notify("news")
        heard_early.append(there.signals.wait(ticket, 0.3))

    here.write(step)
    assert heard_early == [False]
    assert there.signals.wait(ticket, 5)
    assert there.read(lambda tx: tx.execute(text("SELECT n FROM beacon")).scalar()) == 7


def test_a_rolled_back_step_says_nothing(pair: tuple[Database, Database]) -> None:
    here, there = pair
    ticket = quiet(there, "news")

    def step(tx: Any) -> None:
        tx.execute(text("UPDATE beacon SET n = 7"))
        tx.notify("news")
        raise KeyError

    with pytest.raises(KeyError):
        here.write(step)
    assert not there.signals.wait(ticket, 0.3)
    assert not here.signals.wait(here.signals.ticket("news"), 0.0)


def test_what_happens_between_ticket_and_wait_is_not_lost(pair: tuple[Database, Database]) -> None:
    here, there = pair
    ticket = there.signals.ticket("news")
    own = here.signals.ticket("news")
    shout(here, "news")
    assert here.signals.wait(own, 0.0), "inside the process it is known at once"
    assert there.signals.wait(ticket, 5)
    assert there.signals.wait(ticket, 0.0), "a stale ticket never waits again"


def test_no_wake_up_is_lost_between_many(pair: tuple[Database, Database]) -> None:
    here, there = pair

    def count() -> int:
        return int(there.read(lambda tx: tx.execute(text("SELECT n FROM beacon")).scalar()) or 0)

    seen: list[int] = []

    def watch() -> None:
        deadline = time.monotonic() + 30
        while (not seen or seen[-1] < 30) and time.monotonic() < deadline:
            ticket = there.signals.ticket("news")
            seen.append(count())
            if seen[-1] < 30:
                there.signals.wait(ticket, 5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.monotonic()
    for _ in range(30):
        shout(here, "news")
    watcher.join(30)
    assert seen[-1] == 30
    assert time.monotonic() - begun < module.LOOK_AGAIN_S + 2, "no wait ended by its time-out alone"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_only_who_asked_for_the_topic_is_woken(pair: tuple[Database, Database]) -> None:
    """SQLite tells that something has changed, not what."""
    here, there = pair
    ticket = quiet(there, "mine")
    shout(here, "another")
    assert not there.signals.wait(ticket, 0.3)


def test_a_wait_ends_with_its_time(pair: tuple[Database, Database]) -> None:
    here, _ = pair
    ticket = quiet(here, "never")
    begun = time.monotonic()
    assert not here.signals.wait(ticket, 0.1)
    assert not here.signals.wait(ticket, -1.0)
    assert 0.09 < time.monotonic() - begun < 2.0


def test_waiting_in_an_event_loop(pair: tuple[Database, Database]) -> None:
    here, there = pair
    ticket = quiet(there, "news")

    async def scene() -> tuple[bool, bool, bool, list[bool]]:
        early = await there.signals.wait_async(ticket, 0.05)
        waiting = [asyncio.create_task(there.signals.wait_async(ticket, 5)) for _ in range(50)]
        await asyncio.sleep(0)
        await asyncio.to_thread(shout, here, "news")
        answers = await asyncio.gather(*waiting)
        again = await there.signals.wait_async(ticket, 5)
        cancelled = asyncio.create_task(
            there.signals.wait_async(there.signals.ticket("nothing of this name"), 5)
        )
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        return early, again, cancelled.cancelled() or cancelled.done(), answers

    early, again, ended, answers = asyncio.run(scene())
    assert (early, again, ended) == (False, True, True)
    assert answers == [True] * 50
    assert there.signals._async_waiters == {}


def test_a_loop_that_ended_does_not_disturb(pair: tuple[Database, Database]) -> None:
    here, there = pair
    for _ in range(3):
        ticket = there.signals.ticket("news")
        shout(here, "news")
        assert asyncio.run(there.signals.wait_async(ticket, 5))


def test_closing_ends_waits_and_the_thread(database_url: str) -> None:
    database = Database(database_url)
    ticket = database.signals.ticket("x")
    ended = threading.Event()

    def wait() -> None:
        while not database.signals.closed.is_set():
            database.signals.wait(ticket, 5)
        ended.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    database.close()
    assert ended.wait(3)
    waiter.join(5)
    thread = database.signals._thread
    assert thread is not None
    assert not thread.is_alive()
    assert asyncio.run(database.signals.wait_async(database.signals.ticket("y"), 5)), "no wait after the end"
    assert not any(each.name == "store-signals" and each is not thread for each in threading.enumerate())


def test_a_listener_whose_connection_dies_comes_back_and_wakes_everybody(new_database: Any) -> None:
    url = new_database()
    here, there = Database(url), Database(url)
    try:
        here.write(lambda tx: tx.execute(text("CREATE TABLE beacon (n integer)")))
        hears(there)
        ticket = quiet(there, "news")
        listeners = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
        assert here.write(lambda tx: tx.execute(listeners).scalar()) == 1
        assert there.signals.wait(ticket, 5), "something may have been missed"
        ticket = quiet(there, "news")
        shout(here, "news")
        assert there.signals.wait(ticket, 5)
    finally:
        here.close()
        there.close()


def test_a_cancellation_that_meets_a_signal_is_not_lost(pair: tuple[Database, Database]) -> None:
    """Whoever follows the store for ever must be able to end, whenever he is told to."""
    _, there = pair

    async def told_after(turns: int) -> None:
        waiting = asyncio.create_task(there.signals.wait_async(there.signals.ticket("far"), 5))
        for _ in range(3):
            await asyncio.sleep(0)
        there.signals.arrived(["far"])
        for _ in range(turns):
            await asyncio.sleep(0)
        if waiting.cancel():
            with pytest.raises(asyncio.CancelledError):
                await waiting

    for turns in range(6):
        asyncio.run(told_after(turns))
