"""A step that takes too long is given up: its thread may wake up later, and must not write then."""

from __future__ import annotations

import asyncio
import threading

import pytest

from catchment.errors import LeaseLost, StepTimedOut
from catchment.jobs import lifecycle, rows
from catchment.rounds import collect, commit, deadlines, evaluation, prepare, select
from catchment.rounds.claim import Claim, claim_job, held
from catchment.rounds.deadlines import Step, further_s, in_time
from catchment.store import Store
from catchment.store.clock import WatchedClock
from tests.thread_sites import add_one, job


def claimed(store: Store, **hyper: object) -> Claim:
    lifecycle.create_job(store, "default", job(hyper_parameters=hyper))
    return claim_job(store, "default", "j", flow_run_id="run", attempt=1)


@pytest.fixture
def hasty(store: Store) -> Store:
    """The store, with little time for each step."""
    store.settings = store.settings.model_copy(update={"step_timeout_s": 0.2})
    return store


def test_a_late_thread_cannot_write_once_its_step_was_given_up(hasty):
    claim = claimed(hasty)
    wakes, over = threading.Event(), threading.Event()
    ended: list[BaseException | str] = []

    def hangs() -> None:
        wakes.wait(30)
        try:
            hasty.db.write(lambda tx: (held(tx, claim), rows.change(tx, claim.uid, progress=77)))
            ended.append("written")
        except LeaseLost as error:
            ended.append(error)
        finally:
            over.set()

    with pytest.raises(StepTimedOut, match=r"step 'save checkpoint, round 3' was not done after 0\.2 s"):
        asyncio.run(in_time(hasty, Step("save checkpoint", claim, 3), hangs))
    shown = lifecycle.get_job(hasty, "default", "j")["status"]
    assert shown["reason"].startswith("step 'save checkpoint, round 3'")
    hasty.db.write(lambda tx: held(tx, claim))  # the next try of the step may
    wakes.set()
    assert over.wait(30)
    assert isinstance(ended[0], LeaseLost)
    assert lifecycle.get_job(hasty, "default", "j")["status"]["progress"] != 77


def test_a_step_that_is_quick_gives_its_result_or_its_error(store):
    def fails() -> None:
        raise KeyError("its own")

    assert asyncio.run(in_time(store, Step("prepare run"), lambda: 5)) == 5
    with pytest.raises(KeyError, match="its own"):
        asyncio.run(in_time(store, Step("prepare run"), fails))


def test_a_step_that_waits_for_sites_has_the_time_of_its_wait_as_well(hasty):
    claim = claimed(hasty, round_timeout=30)
    released = threading.Event()
    timer = threading.Timer(0.6, released.set)
    timer.start()
    assert asyncio.run(in_time(hasty, Step("collect updates", claim, 1), lambda: released.wait(20)))
    timer.join()
    assert further_s(hasty, Step("collect updates", claim, 1)) == 30
    assert further_s(hasty, Step("select cohort", claim, 1)) == hasty.settings.cohort_wait_s
    assert further_s(hasty, Step("save checkpoint", claim, 1)) == 0
    assert further_s(hasty, Step("claim job")) == 0


def test_large_updates_have_longer(store, make_site):
    make_site("a")
    make_site("b")
    claim = claimed(store)
    prepare.prepare_run(store, claim)
    select.select_cohort(store, claim, 1)
    select.publish_work(store, claim, 1)
    collect.collect_updates(store, claim, 1)
    sizes = [site["bytes"] for site in lifecycle.job_rounds(store, "default", "j")[0]["sites"]]
    more_s = further_s(store, Step("save checkpoint", claim, 1))
    assert more_s == pytest.approx(sum(sizes) / deadlines.SLOWEST_BYTES_PER_S)
    assert more_s > 0


def test_two_tries_of_the_commit_that_overlap_commit_once(store, make_site, monkeypatch):
    make_site("a")
    make_site("b")
    claim = claimed(store)
    prepare.prepare_run(store, claim)
    select.select_cohort(store, claim, 1)
    select.publish_work(store, claim, 1)
    assert collect.collect_updates(store, claim, 1).enough
    first: list[str] = []
    reach = commit.faults.reach

    def other_try_in_between(point: str) -> None:
        if point == "before_commit" and not first:
            first.append("")
            first.append(commit.aggregate_and_commit(store, claim, 1))
        reach(point)

    monkeypatch.setattr(commit.faults, "reach", other_try_in_between)
    second = commit.aggregate_and_commit(store, claim, 1)
    assert second == first[1]
    committed = [
        report
        for report in lifecycle.job_rounds(store, "default", "j")
        if (report["round"], report["state"]) == (1, "committed")
    ]
    assert len(committed) == 1


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_round_goes_on_through_a_jump_of_the_clock(store, make_site, jump):
    jumped = [0.0]
    real = store.db.clock
    store.db.clock = WatchedClock(lambda connection: real.now(connection) + jumped[0])

    def trains_while_the_clock_jumps(order, weights):
        jumped[0] = jump
        return add_one(order, weights)

    make_site("a", train=trains_while_the_clock_jumps)
    make_site("b")
    claim = claimed(store, round_timeout=60, max_round_num=1)
    prepare.prepare_run(store, claim)
    select.select_cohort(store, claim, 1)
    select.publish_work(store, claim, 1)
    assert collect.collect_updates(store, claim, 1).admitted == 2
    commit.aggregate_and_commit(store, claim, 1)
    assert evaluation.evaluate_round(store, claim, 1) is not None
    reports = lifecycle.job_rounds(store, "default", "j")
    assert [(report["attempt"], report["state"]) for report in reports] == [(0, "committed")]
