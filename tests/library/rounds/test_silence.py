"""An outage of the coordinator is no loss of its sites: rounds wait it out and say so."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from catchment.errors import RoundFailed
from catchment.exchange import sites as exchange_sites
from catchment.jobs import lifecycle
from catchment.rounds import collect, select
from catchment.settings import Settings
from catchment.store import Store, migrate, open_store
from tests.conftest import wait_until
from tests.library.rounds.test_run import begin, one_round, status
from tests.thread_sites import Site, accuracy, add_one, job

LEASE_S = 0.6


@pytest.fixture
def patient(store: Store, request: pytest.FixtureRequest) -> Callable[..., Store]:
    """Opens the store with short leases and other changes."""

    def make(**changes: Any) -> Store:
        settings = Settings(**{**store.settings.model_dump(), "site_lease_s": LEASE_S, **changes})
        migrate(settings)
        opened = open_store(settings)
        request.addfinalizer(opened.close)
        return opened

    return make


@pytest.fixture
def sites_of(tmp_path, request) -> Callable[..., list[Site]]:
    """Sites a and b; while they train they give no sign of life, as in an outage."""

    def make(store: Store, train: Any = add_one) -> list[Site]:
        made = []
        for name in "ab":
            (tmp_path / name).mkdir()
            made.append(Site(store, name, tmp_path / name, train, accuracy))
        request.addfinalizer(lambda: [site.die() for site in made])
        return made

    return make


def come_back(site: Site) -> None:
    site.over.clear()
    site.thread = threading.Thread(target=site._run, daemon=True)
    site.thread.start()


def reason_says(store: Store, words: str) -> None:
    wait_until(lambda: words in status(store)["reason"], timeout_s=10, what=words)


def test_work_stays_with_its_sites_while_nobody_is_heard(patient, sites_of):
    store, back = patient(cohort_wait_s=60), threading.Event()

    def outage(order, weights):
        back.wait(30)
        return add_one(order, weights)

    sites_of(store, outage)
    claim = begin(store, job(hyper_parameters={"max_round_num": 1}))
    thread = threading.Thread(target=one_round, args=(store, claim, 1))
    thread.start()
    reason_says(store, f"round 1 waits: no site has been heard for {LEASE_S:g} s")
    back.set()
    thread.join(20)
    (report,) = lifecycle.job_rounds(store, "default", "j")
    assert (report["state"], report["attempt"]) == ("committed", 0)
    assert [site["outcome"] for site in report["sites"]] == ["admitted", "admitted"]
    assert status(store)["reason"] == ""


def test_sites_that_stay_away_are_given_up_in_the_end(patient, sites_of):
    store = patient(cohort_wait_s=0.5)
    first, second = sites_of(store)
    claim = begin(store, job())
    select.select_cohort(store, claim, 1)
    first.die()
    second.die()
    select.publish_work(store, claim, 1)
    collected = collect.collect_updates(store, claim, 1)
    assert not collected.enough
    assert re.search(r"[ab] lost \(no sign of life from the site for \d+ s\)", collected.reason)


def test_a_round_waits_longer_than_its_time_limit_for_sites_when_nobody_is_heard(patient, sites_of):
    store = patient(cohort_wait_s=60)
    both = sites_of(store)
    for site in both:
        site.die()
    claim = begin(store, job(hyper_parameters={"round_timeout": 1}))
    wait_until(lambda: not any(site["online"] for site in all_sites(store)), timeout_s=10, what="silence")
    chosen: list[str] = []
    thread = threading.Thread(target=lambda: chosen.extend(select.select_cohort(store, claim, 1)))
    began = time.monotonic()
    thread.start()
    reason_says(store, "round 1 waits for 2 sites that fit, 0 there")
    wait_until(lambda: time.monotonic() - began > 1.2, timeout_s=5, what="the round's time limit to pass")
    come_back(both[1])
    thread.join(20)
    assert chosen == ["a", "b"]


def all_sites(store: Store) -> list[dict[str, Any]]:
    return exchange_sites.list_sites(store)


def test_missing_sites_beside_others_are_waited_for_no_longer_than_the_round(patient, sites_of):
    store = patient(cohort_wait_s=60)
    sites_of(store)[0].die()
    claim = begin(store, job(hyper_parameters={"round_timeout": 1}))
    wait_until(
        lambda: [site["online"] for site in all_sites(store)] == [False, True],
        timeout_s=10,
        what="one site to be gone",
    )
    with pytest.raises(RoundFailed, match=r"2 sites that fit, 1 there: b .*; waited 1 s"):
        select.select_cohort(store, claim, 1)
