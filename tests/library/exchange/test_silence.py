"""Whom the coordinator believes gone when it has heard nobody for a while."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from catchment.exchange import sites
from catchment.exchange.silence import gone_sites, nobody_is_heard
from catchment.store import Store
from tests.library.exchange.offers import ask, registration
from tests.library.store.fresh import BOTH, Clock


def online(store: Store) -> list[str]:
    return [site["name"] for site in sites.list_sites(store) if site["online"]]


def gone(store: Store) -> set[str]:
    return set(store.db.read(lambda tx: gone_sites(tx, store.settings, list("abc")))[0])


def is_silent(store: Store) -> bool:
    return store.db.read(lambda tx: nobody_is_heard(tx, store.settings.site_lease_s))


@pytest.fixture
def lease_s(store: Store) -> float:
    for name in "abc":
        sites.register(store, name, registration())
    return store.settings.site_lease_s


def polls(store: Store) -> None:
    ask(store, "b")


def registers_anew(store: Store) -> None:
    sites.register(store, "b", registration("session-2"))


def registers_for_the_first_time(store: Store) -> None:
    sites.register(store, "d", registration())


@BOTH
@pytest.mark.parametrize("heard", [polls, registers_anew, registers_for_the_first_time])
def test_who_is_heard_first_after_a_silence_gives_the_others_a_lease_to_come_back(
    store: Store, clock: Clock, lease_s: float, heard: Callable[[Store], None]
) -> None:
    clock.forward(100 * lease_s)
    assert online(store) == []
    heard(store)
    assert set("abc") <= set(online(store))
    clock.forward(lease_s + 0.1)
    assert online(store) == []


def test_who_was_gone_before_the_silence_stays_gone(store: Store, clock: Clock, lease_s: float) -> None:
    sites.leave(store, "a")
    for _ in range(6):
        clock.forward(lease_s / 3)
        ask(store, "b")
    clock.forward(10 * lease_s)
    ask(store, "b")
    assert online(store) == ["b"]


def test_a_silent_site_beside_others_is_gone_after_its_lease(
    store: Store, clock: Clock, lease_s: float
) -> None:
    for _ in range(3):
        clock.forward(lease_s / 3)
        ask(store, "b")
        assert gone(store) == set()
    clock.forward(0.1)
    assert gone(store) == set(), "nobody was heard a lease after them yet"
    ask(store, "b")
    assert gone(store) == {"a", "c"}
    assert online(store) == ["b"]


def test_in_an_outage_nobody_is_gone_until_a_cohort_has_been_waited_for(
    store: Store, clock: Clock, lease_s: float
) -> None:
    clock.forward(lease_s / 3)
    ask(store, "b")  # polls come at different times, so leases lapse at different times
    clock.forward(lease_s)
    assert (gone(store), is_silent(store)) == (set(), False)
    clock.forward(lease_s / 3 + store.settings.cohort_wait_s - lease_s / 3)
    assert (gone(store), is_silent(store)) == ({"a", "c"}, True)
    clock.forward(lease_s)
    assert gone(store) == set("abc")


def test_when_it_is_time_to_look_again(store: Store, clock: Clock, lease_s: float) -> None:
    def look_s() -> float:
        return store.db.read(lambda tx: gone_sites(tx, store.settings, list("abc")))[1]

    assert lease_s < look_s() < lease_s + 1
    clock.forward(lease_s - 10)
    assert 10 < look_s() < 11
    clock.forward(20)
    assert 0.1 <= look_s() <= lease_s / 5, "the answer depends on whom the coordinator hears"


def test_a_site_that_never_was_there_is_gone(store: Store) -> None:
    assert gone(store) == set("abc")


def test_where_no_site_ever_was_there_is_no_silence(store: Store, clock: Clock) -> None:
    clock.forward(1e6)
    assert not is_silent(store)
