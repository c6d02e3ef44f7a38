"""FedBuff through whole rounds: sites that are not done go on, and count in a later round."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select as sql_select

from catchment.exchange import sites, transfer
from catchment.jobs import lifecycle
from catchment.jobs.spec import HyperParameters
from catchment.jobs.states import AT_SITE
from catchment.models.tensors import read_tensors
from catchment.rounds import collect, commit, prepare, run, select
from catchment.rounds.claim import claim_job
from catchment.rounds.collect import is_closed
from catchment.store import Store
from catchment.store.schema import rounds, works
from catchment.wire.messages import PollRequest, WorkOrder
from tests.runs import begin, drive, one_round
from tests.thread_sites import job

WAIT_S = 120


def buffered(max_round_num: int = 4, **params: Any) -> dict[str, Any]:
    hyper = {
        "client_num": 3,
        "threshold_client_num": 2,
        "max_round_num": max_round_num,
        "evaluate_interval": max_round_num,
        "save_interval": max_round_num,
    }
    return job(strategy={"name": "fedbuff", "params": params}, hyper_parameters=hyper)


class Slow:
    """A training that waits until it is let go, and then fetches its weights once more."""

    def __init__(self, store: Store) -> None:
        self.store, self.go, self.begun = store, threading.Event(), threading.Event()

    def __call__(self, order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        if not self.begun.is_set():
            self.begun.set()
            alive = PollRequest(session="session-c", free=0, holding=(order.work_id,), wait_s=0.2)
            deadline = time.monotonic() + WAIT_S
            while not self.go.is_set():
                assert time.monotonic() < deadline
                asyncio.run(sites.poll(self.store, "c", alive))
            path, _ = transfer.site_blob(self.store, "c", order.weights.digest)
            np.testing.assert_array_equal(read_tensors(path)["w"], weights["w"])
        return {"w": np.full_like(weights["w"], 8.0), "steps": np.array(order.seed)}, {"sample_num": 5}


def quick(store: Store, slow: Slow, lets_go_in: int) -> Any:
    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        assert slow.begun.wait(WAIT_S)
        if order.round >= lets_go_in:
            slow.go.set()
        return {"w": np.ones_like(weights["w"]), "steps": np.array(order.seed)}, {"sample_num": 5}

    return train


def all_works(store: Store) -> list[Any]:
    return store.db.read(lambda tx: tx.execute(sql_select(works).order_by(works.c.round)).all())


def final(store: Store) -> np.ndarray:
    last = store.db.read(lambda tx: tx.execute(sql_select(rounds).order_by(rounds.c.number)).all())[-1]
    return read_tensors(store.blobs.local_path(last.new_weights))["w"]


def test_a_slow_site_goes_on_and_counts_less_in_a_later_round(store, make_site):
    slow = Slow(store)
    site = make_site("c", slow)
    for name in ("a", "b"):
        make_site(name, quick(store, slow, lets_go_in=3))
    drive(store, begin(store, buffered(max_round_num=6)))
    wanted, counted = 0.0, []
    for report in lifecycle.job_rounds(store, "default", "j"):
        staleness = report["strategy"]["metrics"]["staleness"]
        assert len(staleness) >= 2
        change = [(8.0 if who == "c" else 1.0) / math.sqrt(1 + late) for who, late in staleness.items()]
        wanted += sum(change) / len(change)
        counted += [(report["round"], staleness["c"])] if "c" in staleness else []
    np.testing.assert_allclose(final(store), np.full((2, 3), wanted), rtol=1e-6)
    number, late = counted[0]
    assert late == number - 1
    assert late >= 2
    ordered = [order.round for order in site.seen if order.kind == "train"]
    assert ordered[0] == 1
    assert all(later > number for later in ordered[1:]), "a busy site is not selected again"
    assert not [work for work in all_works(store) if work.kind == "train" and work.state in AT_SITE]
    assert all(work.update is None for work in all_works(store))


def test_what_is_too_stale_is_taken_back(store, make_site):
    slow = Slow(store)
    make_site("c", slow)
    for name in ("a", "b"):
        make_site(name, quick(store, slow, lets_go_in=99))
    claim = begin(store, buffered(max_staleness=1))
    one_round(store, claim, 1)
    (work,) = [work for work in all_works(store) if work.site == "c"]
    assert work.state in AT_SITE
    one_round(store, claim, 2)
    (work,) = [work for work in all_works(store) if work.site == "c" and work.round == 1]
    assert (work.state, work.reason) == ("late", "more than max_staleness, 1, rounds behind")
    slow.go.set()


def test_after_a_stop_what_arrived_still_counts_and_busy_sites_are_free_again(store, make_site):
    slow = Slow(store)
    make_site("c", slow)
    for name in ("a", "b"):
        make_site(name, quick(store, slow, lets_go_in=99))
    claim = begin(store, buffered(max_round_num=3))
    one_round(store, claim, 1)
    lifecycle.request_stop(store, "default", "j")
    run.stop_run(store, claim)
    assert not [work for work in all_works(store) if work.state in AT_SITE]
    slow.go.set()
    assert lifecycle.request_start(store, "default", "j") is not None
    again = claim_job(store, "default", "j", flow_run_id="another", attempt=1)
    prepare.prepare_run(store, again)
    drive(store, again)
    assert lifecycle.get_job(store, "default", "j")["status"]["state"] == "FINISHED"
    taken = [work for work in all_works(store) if work.counted_in is not None]
    assert len({work.id for work in taken}) == len(taken)
    assert {work.counted_in for work in taken} == {1, 2, 3}


def test_an_update_counts_once_even_when_the_commit_is_tried_again(store, make_site):
    slow = Slow(store)
    slow.begun.set()
    for name in ("a", "b"):
        make_site(name, quick(store, slow, lets_go_in=99))
    make_site("c", quick(store, slow, lets_go_in=99))
    claim = begin(store, buffered(max_round_num=2, buffer_size=3))
    select.select_cohort(store, claim, 1)
    select.publish_work(store, claim, 1)
    assert collect.collect_updates(store, claim, 1).admitted == 3
    assert commit.aggregate_and_commit(store, claim, 1) == commit.aggregate_and_commit(store, claim, 1)
    first = lifecycle.job_rounds(store, "default", "j")[0]
    assert first["strategy"]["metrics"]["staleness"] == {"a": 0, "b": 0, "c": 0}
    one_round(store, claim, 2)
    np.testing.assert_array_equal(final(store), np.full((2, 3), 2.0))


@pytest.mark.parametrize(
    ("admitted", "pending", "over", "closed"),
    [(1, 2, False, False), (2, 1, False, True), (2, 0, False, True), (1, 0, False, True), (0, 3, True, True)],
)
def test_when_a_buffered_round_closes(admitted: int, pending: int, over: bool, closed: bool) -> None:
    hyper = HyperParameters(client_num=3, threshold_client_num=2)
    assert is_closed(hyper, 3, admitted, pending, over=over, size=2) is closed
