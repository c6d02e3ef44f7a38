"""Every step may run twice: what was broadcast stays, finish is noted, no call is made more than it must."""

from __future__ import annotations

import numpy as np
import pytest

from catchment.errors import LeaseLost, RoundFailed
from catchment.jobs import lifecycle
from catchment.rounds import broadcasting, collect, commit, evaluation, finishing, run, select
from catchment.rounds.claim import Claim

COUNTED = """
def note(word):
    with open(CALLS, "a") as file:
        file.write(word + "\\n")
    return len(open(CALLS).readlines())
def broadcast(parameters):
    return {}, {"call": note("broadcast")}
def aggregate(update, previous):
    note("aggregate")
    return {"n": 1}
def finish(result):
    open(result["output"] + "/n", "w").write(str(note("finish")))
"""


def test_each_step_twice_calls_each_function_once(driver, make_site):
    sites = [make_site("a"), make_site("b")]
    claim = driver.begin(COUNTED, "broadcast", "aggregate", "finish", hyper_parameters={"max_round_num": 1})
    for _ in range(2):
        select.select_cohort(driver.store, claim, 1)
        broadcasting.broadcast(driver.store, claim, 1, "train")
        select.publish_work(driver.store, claim, 1)
    for _ in range(2):
        assert collect.collect_updates(driver.store, claim, 1).enough
        commit.aggregate_and_commit(driver.store, claim, 1)
    for _ in range(2):
        driver.after(claim, 1)
    assert driver.called() == ["broadcast", "aggregate", "aggregate", "broadcast", "finish"]
    assert driver.folder("out/j_V1/extender/round_1/n").read_text() == "5"
    trained = {order.prepared_parameters["call"] for site in sites for order in site.seen}
    assert trained == {1, 4}


def test_a_resumed_round_sends_the_same_broadcast(driver, make_site):
    sites = [make_site("a"), make_site("b")]
    claim = driver.begin(COUNTED, "broadcast")
    select.select_cohort(driver.store, claim, 1)
    broadcasting.broadcast(driver.store, claim, 1, "train")
    driver.write_script("raise RuntimeError('this start has packed another file')\n")
    later = driver.start(attempt=2)
    driver.trained(later, 1)
    assert {order.prepared_parameters["call"] for site in sites for order in site.seen} == {1}
    broadcasting.broadcast(driver.store, later, 1, "evaluate")
    assert driver.called() == ["broadcast"] * 2


def test_nothing_is_published_before_its_broadcast(driver, make_site):
    make_site("a")
    make_site("b")
    claim = driver.begin(COUNTED, "broadcast")
    select.select_cohort(driver.store, claim, 1)
    with pytest.raises(RoundFailed, match="cannot be published before its broadcast"):
        select.publish_work(driver.store, claim, 1)
    driver.trained(claim, 1)
    states = [report["state"] for report in lifecycle.job_rounds(driver.store, "default", "j")]
    assert states == ["committed", "selected"]
    with pytest.raises(RoundFailed, match="cannot be published before its broadcast"):
        evaluation.evaluate_round(driver.store, claim, 1)


def test_a_process_that_dies_after_the_commit_leaves_finish_to_the_next_one(driver, make_site):
    make_site("a")
    make_site("b")
    claim = driver.begin(
        COUNTED, "aggregate", "finish", hyper_parameters={"evaluate_interval": 9, "save_interval": 9}
    )
    driver.trained(claim, 1)
    later: Claim = driver.start(attempt=2)
    assert run.remaining_rounds(driver.store, later) == range(1, 4)
    driver.one_round(later, 1)
    assert run.remaining_rounds(driver.store, later) == range(2, 4)
    assert driver.called() == ["aggregate", "aggregate", "finish"]
    with pytest.raises(LeaseLost):
        finishing.finish_round(driver.store, claim, 1)


def test_a_new_attempt_has_a_broadcast_of_its_own(driver, make_site):
    sites = [make_site("a"), make_site("b")]
    claim = driver.begin(COUNTED, "broadcast")
    select.select_cohort(driver.store, claim, 1)
    broadcasting.broadcast(driver.store, claim, 1, "train")
    lifecycle.request_stop(driver.store, "default", "j")
    run.stop_run(driver.store, claim)
    again = driver.start("second")
    driver.trained(again, 1)
    assert {order.prepared_parameters["call"] for site in sites for order in site.seen} == {2}


def test_the_evaluation_that_a_stop_took_back_is_sent_again_as_it_was(driver, make_site):
    seen = []

    def stops(order, weights):
        seen.append(order.prepared_parameters)
        if len(seen) == 1:
            lifecycle.request_stop(driver.store, "default", "j")
        return {}, {"sample_num": 1, "accuracy": 0.5}

    make_site("a", evaluate=stops)
    claim = driver.begin(COUNTED, "broadcast", hyper_parameters={"client_num": 1, "threshold_client_num": 1})
    driver.trained(claim, 1)
    broadcasting.broadcast(driver.store, claim, 1, "evaluate")
    from tests.conftest import wait_until

    wait_until(lambda: seen, timeout_s=10, what="the evaluation")
    run.stop_run(driver.store, claim)
    again = driver.start("second")
    driver.after(again, 1)
    assert seen[0] == seen[1] == {"call": 2}


def test_a_folder_that_a_killed_call_left_is_removed_by_the_next(driver, make_site):
    make_site("a")
    make_site("b")
    claim = driver.begin(COUNTED, "broadcast")
    staging = driver.store.blobs.staging_folder
    staging.mkdir(parents=True, exist_ok=True)
    (staging / f"extender-{claim.uid}-0123" / "work").mkdir(parents=True)
    (staging / "extender-another-0123").mkdir()
    digest = driver.trained(claim, 1)
    assert [path.name for path in staging.glob("extender-*")] == ["extender-another-0123"]
    assert np.isfinite(len(digest))
