"""Sites come, ask for work, and go."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import ValidationError

from catchment.errors import NotFound, Refused
from catchment.exchange import sites
from catchment.store import Store
from catchment.store.clock import host_clock
from catchment.wire.messages import PollRequest, SiteResources
from tests.library.exchange.offers import ask, close, ids, offer, registration, work
from tests.library.store.fresh import BOTH, Clock


@pytest.fixture(autouse=True)
def registered(store: Store) -> None:
    sites.register(store, "a", registration())


def listed(store: Store, name: str = "a") -> dict[str, Any]:
    return next(site for site in sites.list_sites(store) if site["name"] == name)


@BOTH
def test_a_site_is_listed_with_what_it_said(store: Store) -> None:
    answer = sites.register(
        store, "b", registration(address="h:1", entries=("train",), allow_scripts="listed")
    )
    assert (answer.lease_s, answer.poll_s) == (store.settings.site_lease_s, store.settings.site_poll_s)
    assert [site["name"] for site in sites.list_sites(store)] == ["a", "b"]
    assert listed(store, "b") == {
        "name": "b",
        "address": "h:1",
        "mutual_tls": False,
        "isolation": None,
        "runtimes": ["pytorch"],
        "datasets": ["digits"],
        "entries": ["train"],
        "resources": {"cpu": 4.0, "memory_mb": 4000, "gpu": 0},
        "max_task_parallelism": 1,
        "allow_scripts": "listed",
        "online": True,
        "last_seen": "2023-11-14T22:13:20.000Z",
        "working": 0,
    }


@BOTH
def test_registering_again_replaces_what_was_said(store: Store) -> None:
    sites.register(store, "a", registration(address="elsewhere:2"))
    assert listed(store)["address"] == "elsewhere:2"
    assert len(sites.list_sites(store)) == 1


@BOTH
def test_one_name_registered_by_many_at_once_is_one_site(store: Store) -> None:
    def register(number: int) -> None:
        sites.register(store, "new", registration(f"session-{number}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(register, range(8)))
    assert [site["name"] for site in sites.list_sites(store)] == ["a", "new"]


def test_another_protocol_is_refused_with_both_versions(store: Store) -> None:
    with pytest.raises(Refused, match=r"speaks version 1 .* agent version 2"):
        sites.register(store, "z", registration(protocol=2))
    assert len(sites.list_sites(store)) == 1


@BOTH
def test_strange_but_well_formed_registrations_are_stored(store: Store) -> None:
    strange = registration("ses\x00sion", address="a\x00b:1", agent_version="\x00", datasets=("d\x00",) * 3)
    sites.register(store, "b", strange)
    assert ask(store, "b", session="ses\x00sion").work == ()
    assert listed(store, "b")["address"] == "ab:1"


@pytest.mark.parametrize("cpu", [float("inf"), float("nan"), 0.0, -1.0])
def test_a_site_cannot_offer_what_is_no_number(cpu: float) -> None:
    with pytest.raises(ValidationError):
        SiteResources(cpu=cpu)


def test_a_site_is_online_as_long_as_its_lease(store: Store, clock: Clock) -> None:
    clock.forward(store.settings.site_lease_s)
    assert listed(store)["online"]
    clock.forward(0.1)
    assert not listed(store)["online"]
    ask(store, "a")
    assert listed(store)["online"]


@BOTH
def test_leaving_gives_up_the_open_work_and_ends_the_session(store: Store) -> None:
    open_work, done = offer(store, "a"), offer(store, "a", state="delivered")
    other = offer(store, "b")
    sites.leave(store, "a")
    assert not listed(store)["online"]
    assert (work(store, open_work).state, work(store, open_work).reason) == (
        "lost",
        "the site's agent was shut down",
    )
    assert work(store, done).state == "delivered"
    assert work(store, other).state == "offered"
    with pytest.raises(NotFound, match="register again"):
        ask(store, "a")
    sites.register(store, "a", registration())
    assert ask(store, "a").work == ()
    sites.leave(store, "never seen")


@BOTH
def test_an_agent_that_leaves_late_costs_its_successor_nothing(store: Store) -> None:
    sites.register(store, "a", registration(session="the-newer-one"))
    open_work = offer(store, "a")
    with pytest.raises(NotFound, match="another session by now"):
        sites.leave(store, "a", "session-1")
    assert listed(store)["online"]
    assert work(store, open_work).state == "offered"
    sites.leave(store, "a", "the-newer-one")
    assert not listed(store)["online"]
    assert work(store, open_work).state == "lost"


def test_who_is_not_registered_hears_that(store: Store) -> None:
    for name, session in (("unknown", "session-1"), ("a", "another-session")):
        with pytest.raises(NotFound, match="register again"):
            ask(store, name, session=session)


# Work


@BOTH
def test_work_is_handed_out_up_to_what_is_free(store: Store, clock: Clock) -> None:
    offered = []
    for _ in range(3):
        offered.append(offer(store, "a"))
        clock.forward(1)
    assert ids(ask(store, "a", free=0)) == []
    assert ids(ask(store, "a", free=2)) == offered[:2]
    assert [work(store, each).state for each in offered] == ["accepted", "accepted", "offered"]
    assert ids(ask(store, "a", free=5, holding=offered[:2])) == offered[2:]
    assert listed(store)["working"] == 3


def test_the_order_says_what_to_do_and_how_long_it_may_take(store: Store, clock: Clock) -> None:
    work_id = offer(store, "a", deadline=clock() + 60)
    clock.forward(20)
    (order,) = ask(store, "a").work
    assert (order.work_id, order.kind, order.timeout_s) == (work_id, "train", 40.0)
    clock.forward(100)
    (late,) = ask(store, "a").work
    assert late.timeout_s == 0.0


def test_evaluations_go_first(store: Store, clock: Clock) -> None:
    training = offer(store, "a")
    clock.forward(1)
    evaluation = offer(store, "a", kind="evaluate")
    assert ids(ask(store, "a", free=1)) == [evaluation]
    assert ids(ask(store, "a", free=1, holding=(evaluation,))) == [training]


@BOTH
def test_an_answer_that_was_lost_is_given_again(store: Store) -> None:
    work_id = offer(store, "a")
    assert ids(ask(store, "a")) == [work_id]
    assert ids(ask(store, "a", free=0)) == [work_id], "it was handed out and did not arrive"
    assert ids(ask(store, "a", free=4, holding=(work_id,))) == []


@BOTH
def test_a_restarted_site_gets_its_work_again(store: Store) -> None:
    work_id = offer(store, "a")
    ask(store, "a")
    sites.register(store, "a", registration("session-2"))
    assert work(store, work_id).state == "offered"
    with pytest.raises(NotFound):
        ask(store, "a", session="session-1")
    assert ids(ask(store, "a", session="session-2")) == [work_id]


@BOTH
def test_a_restarted_site_keeps_what_it_has_kept(store: Store) -> None:
    kept, lost = offer(store, "a"), offer(store, "a")
    ask(store, "a", free=2)
    sites.register(store, "a", registration("session-2"))
    answer = ask(store, "a", session="session-2", free=1, holding=(kept,))
    assert ids(answer) == [lost], "what it holds takes no free place"
    assert answer.cancel == ()
    assert work(store, kept).state == "accepted"


def test_registering_again_with_the_same_session_takes_nothing_back(store: Store) -> None:
    work_id = offer(store, "a")
    ask(store, "a")
    sites.register(store, "a", registration())
    assert work(store, work_id).state == "accepted"


@BOTH
@pytest.mark.parametrize(
    "state", ["cancelled", "late", "lost", "delivered", "admitted", "rejected", "failed"]
)
def test_what_nobody_waits_for_is_cancelled(store: Store, state: str) -> None:
    work_id = offer(store, "a", state="accepted")
    close(store, work_id, state, "because")
    (cancel,) = ask(store, "a", free=0, holding=(work_id,)).cancel
    assert (cancel.work_id, cancel.reason) == (work_id, "because")


def test_unknown_and_foreign_work_is_cancelled(store: Store) -> None:
    sites.register(store, "b", registration())
    foreign = offer(store, "b", state="accepted")
    answer = ask(store, "a", holding=("nonsense", foreign))
    assert [cancel.work_id for cancel in answer.cancel] == ["nonsense", foreign]
    assert all("does not know" in cancel.reason for cancel in answer.cancel)
    assert work(store, foreign).state == "accepted"


def test_a_poll_is_a_sign_of_life_of_its_site_alone(store: Store, clock: Clock) -> None:
    sites.register(store, "b", registration())
    clock.forward(20)
    ask(store, "a")
    clock.forward(20)
    assert (listed(store, "a")["online"], listed(store, "b")["online"]) == (True, False)


# Waiting


def while_polling(store: Store, action: Any, **changes: Any) -> tuple[Any, float]:
    """The answer to a poll during which `action` happens, and how long after it the answer came."""

    async def scene() -> tuple[Any, float]:
        request = PollRequest(session="session-1", free=1, wait_s=10, **changes)
        waiting = asyncio.create_task(sites.poll(store, "a", request))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        begun = time.monotonic()
        await asyncio.to_thread(action)
        answer = (await asyncio.gather(waiting, return_exceptions=True))[0]
        return answer, time.monotonic() - begun

    return asyncio.run(scene())


@BOTH
def test_a_poll_is_answered_when_work_is_published(store: Store) -> None:
    answer, seconds = while_polling(store, lambda: offer(store, "a"))
    assert len(answer.work) == 1
    assert seconds < 0.5


@BOTH
def test_a_poll_is_answered_when_work_is_taken_back(store: Store) -> None:
    work_id = offer(store, "a", state="accepted")
    answer, seconds = while_polling(
        store, lambda: close(store, work_id, "cancelled", "stopped"), holding=(work_id,)
    )
    assert [cancel.reason for cancel in answer.cancel] == ["stopped"]
    assert seconds < 0.5


@BOTH
def test_the_poll_of_a_process_that_was_replaced_ends_at_once(store: Store) -> None:
    answer, seconds = while_polling(store, lambda: sites.register(store, "a", registration("session-2")))
    assert isinstance(answer, NotFound)
    assert seconds < 0.5


@BOTH
def test_a_poll_in_vain_ends_with_its_time(store: Store) -> None:
    begun = time.monotonic()
    answer = ask(store, "a", wait_s=0.3)
    assert (answer.work, answer.cancel) == ((), ())
    assert 0.29 < time.monotonic() - begun < 3


def test_a_poll_never_waits_longer_than_half_the_lease(store: Store) -> None:
    object.__setattr__(store, "settings", store.settings.model_copy(update={"site_lease_s": 0.4}))
    begun = time.monotonic()
    ask(store, "a", wait_s=60)
    assert time.monotonic() - begun < 3


def test_a_waiting_poll_writes_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """On SQLite every write wakes every waiter, so polls that write when they are woken would never sleep."""
    store.db.clock = host_clock()  # with a time that stands still nothing would be written
    write, writes = store.db.write, []

    def counted(step: Any) -> Any:
        writes.append(step)
        return write(step)

    async def scene() -> None:
        request = PollRequest(session="session-1", free=1, wait_s=0.6)
        await asyncio.gather(*(sites.poll(store, "a", request) for _ in range(3)))

    ask(store, "a")
    monkeypatch.setattr(store.db, "write", counted)
    asyncio.run(scene())
    assert len(writes) == 3


@BOTH
def test_two_hundred_sites_may_wait_at_once(store: Store) -> None:
    names = [f"site-{number}" for number in range(200)]
    for name in names:
        sites.register(store, name, registration())

    async def scene() -> list[Any]:
        request = PollRequest(session="session-1", free=1, wait_s=15)
        waiting = [asyncio.create_task(sites.poll(store, name, request)) for name in names]
        await asyncio.wait(waiting, timeout=0.5)
        for name in names[::20]:
            await asyncio.to_thread(offer, store, name)
        served = [waiting[number] for number in range(0, 200, 20)]
        answers = await asyncio.wait_for(asyncio.gather(*served), 12)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return answers

    answers = asyncio.run(scene())
    assert all(len(answer.work) == 1 for answer in answers)
    assert threading.active_count() < 100
