"""Which of many sites take part in a run's rounds, and when its rounds close; sites are threads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sqlalchemy

from catchment.errors import JobStopped, RoundFailed
from catchment.exchange import sites as exchange_sites
from catchment.jobs import lifecycle
from catchment.rounds import collect, commit, prepare, select
from catchment.rounds.claim import Claim, claim_job
from catchment.store import Store
from catchment.store.schema import works
from catchment.wire.messages import PollRequest, SiteResources, WorkOrder, WorkResult
from tests.conftest import wait_until
from tests.library.rounds.test_run import begin, drive, one_round, status
from tests.thread_sites import Site, add_one, job

NAMES = [f"s{index}" for index in range(6)]


@pytest.fixture(autouse=True)
def busy_sites_are_not_gone(store: Store) -> None:
    """A site in a thread gives no sign of life while it trains, and on a busy machine that may take long."""
    object.__setattr__(store, "settings", store.settings.model_copy(update={"site_lease_s": 60.0}))


def own_step(order: WorkOrder, weights: dict[str, np.ndarray], step: float) -> Any:
    """A training whose update tells which site made it."""
    return {"w": np.full_like(weights["w"], step), "steps": weights["steps"]}, {"sample_num": 1}


@pytest.fixture
def six(make_site: Callable[..., Site]) -> dict[str, Site]:
    """Six sites; each moves the weights by a step of its own."""
    return {
        name: make_site(name, lambda order, weights, step=2.0**index: own_step(order, weights, step))
        for index, name in enumerate(NAMES)
    }


def a_job(rounds: int, wanted: int = 2, threshold: int = 1, **changes: Any) -> dict[str, Any]:
    hyper = {
        "max_round_num": rounds,
        "client_num": wanted,
        "threshold_client_num": threshold,
        "evaluate_interval": 99,
        "round_timeout": changes.pop("round_timeout", 60),
    }
    return job(**{**changes, "hyper_parameters": hyper})


def reports(store: Store, job_id: str = "j") -> list[dict[str, Any]]:
    return lifecycle.job_rounds(store, "default", job_id)


def cohorts(store: Store, job_id: str = "j") -> list[list[str]]:
    return [[site["site"] for site in report["sites"]] for report in reports(store, job_id)]


def outcomes(report: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {site["site"]: (site["outcome"], site["reason"]) for site in report["sites"]}


# Who is taken


def test_only_named_clients_take_part_by_name_or_address_in_their_order(store, six):
    clients = f"s5,{six['s3'].registration.address},s0"
    drive(store, begin(store, a_job(3, clients=clients)))
    assert cohorts(store) == [["s3", "s5"]] * 3
    assert not any(six[name].seen for name in ("s0", "s1", "s2", "s4"))


def test_random_clients_are_drawn_anew_each_round_and_alike_for_a_seed(store, six):
    digests = {
        job_id: drive(store, begin(store, a_job(6, id=job_id, random_client=True, seed=seed)))["weights"]
        for job_id, seed in (("first", 11), ("again", 11), ("other", 12))
    }
    assert cohorts(store, "first") == cohorts(store, "again") != cohorts(store, "other")
    assert digests["first"] == digests["again"] != digests["other"]
    assert len({tuple(cohort) for cohort in cohorts(store, "first")}) > 2
    assert {len(cohort) for cohort in cohorts(store, "first")} == {2}


@pytest.mark.parametrize("random_client", [False, True])
def test_untrained_sites_go_first_until_all_have_trained_also_after_a_lost_process(store, six, random_client):
    claim = begin(store, a_job(6, untrained_first=True, random_client=random_client))
    one_round(store, claim, 1)
    again = claim_job(store, "default", "j", flow_run_id="flow-run", attempt=2)
    prepare.prepare_run(store, again)
    drive(store, again)
    taken = cohorts(store)
    for half in (taken[:3], taken[3:]):
        assert sorted(name for cohort in half for name in cohort) == NAMES


def test_only_sites_with_runtime_data_script_and_resources_are_taken(store, make_site):
    small = SiteResources(cpu=1, memory_mb=8000)
    make_site("a-keras", runtimes=("keras",))
    make_site("b-no-data", datasets=())
    make_site("c-no-entry", entries=())
    make_site("d-small", resources=small)
    make_site("e-fits")
    make_site("f-fits")
    body = a_job(1, datasets="digits", resource={"cpu": 2, "memory": 1000})
    drive(store, begin(store, body))
    assert cohorts(store) == [["e-fits", "f-fits"]]


def test_a_quorum_that_the_sites_cannot_make_is_explained_site_by_site(store, make_site):
    make_site("a-keras", runtimes=("keras",))
    make_site("b-no-data", datasets=())
    make_site("c-small", resources=SiteResources(cpu=1, memory_mb=8000))
    make_site("d-fits")
    body = a_job(1, 2, 2, datasets="digits", resource={"cpu": 2}, round_timeout=1)
    claim = begin(store, body)
    with pytest.raises(RoundFailed) as failed:
        one_round(store, claim, 1)
    for told in (
        "round 1 waits for 2 sites that fit, 1 there: d-fits",
        "a-keras has no runtime pytorch",
        "b-no-data has no data set 'digits'",
        "c-small offers 1 of cpu, the job needs 2",
    ):
        assert told in str(failed.value)
        assert told in status(store)["reason"]


def test_a_second_attempt_takes_other_sites_than_those_that_failed(store, make_site):
    def fails(order: WorkOrder, weights: Any) -> WorkResult:
        return WorkResult(status="failed", reason="exit code 1")

    make_site("a", fails)
    for name in "bcd":
        make_site(name)
    one_round(store, begin(store, a_job(1, 2, 2)), 1)
    assert cohorts(store) == [["a", "b"], ["b", "c"]]
    assert [report["state"] for report in reports(store)] == ["failed", "committed"]


# When a round closes


@pytest.fixture
def slow(make_site: Callable[..., Site]):
    """Makes a site that trains until it is let go."""
    gates: list[threading.Event] = []

    def make(name: str) -> threading.Event:
        gate = threading.Event()
        gates.append(gate)

        def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
            gate.wait(30)
            return add_one(order, weights)

        make_site(name, train)
        return gate

    yield make
    for gate in gates:
        gate.set()


def in_a_thread(store: Store, body: dict[str, Any]) -> threading.Thread:
    claim = begin(store, body)

    def drives() -> None:
        with contextlib.suppress(JobStopped, RoundFailed):
            one_round(store, claim, 1)

    thread = threading.Thread(target=drives, daemon=True)
    thread.start()
    return thread


def admitted(store: Store) -> int:
    found = reports(store)
    return sum(site["outcome"] == "admitted" for site in found[0]["sites"]) if found else 0


def test_without_redundancy_a_round_waits_for_all_though_it_has_its_threshold(store, make_site, slow):
    make_site("a")
    gate = slow("b")
    thread = in_a_thread(store, a_job(1, 2, 1))
    wait_until(lambda: admitted(store) == 1, timeout_s=20, what="the fast site's update")
    assert reports(store)[0]["state"] == "open"
    assert reports(store)[0]["rule"] == "waits for all 2 sites until the deadline, needs at least 1"
    gate.set()
    thread.join(20)
    assert outcomes(reports(store)[0]) == {"a": ("admitted", ""), "b": ("admitted", "")}


def commit_round(store: Store, claim: Claim) -> None:
    """The only round, without its evaluation, which would wait for a site that still trains."""
    select.select_cohort(store, claim, 1)
    select.publish_work(store, claim, 1)
    assert collect.collect_updates(store, claim, 1).enough
    commit.aggregate_and_commit(store, claim, 1)


def test_with_redundancy_a_round_closes_when_enough_have_delivered(store, make_site, slow):
    make_site("a")
    make_site("b")
    slow("c")
    began = time.monotonic()
    commit_round(store, begin(store, a_job(1, 2, 1, redundancy=1.5)))
    assert time.monotonic() - began < 30
    (report,) = reports(store)
    assert report["state"] == "committed"
    assert report["rule"] == "closes when 2 of 3 sites have delivered, or at the deadline with at least 1"
    assert outcomes(report)["c"] == ("late", "the round closed without it")


def test_a_straggler_is_told_to_stop_and_why(store, make_site, slow):
    make_site("a")
    make_site("b")
    slow("c")
    commit_round(store, begin(store, a_job(1, 2, 1, redundancy=1.5)))
    (late,) = [site for site in reports(store)[0]["sites"] if site["outcome"] == "late"]
    work_id = work_of(store, late["site"])
    request = PollRequest(session="session-c", free=0, holding=(work_id,), wait_s=0)
    (cancel,) = exchange_sites.answer_now(store, "c", request).cancel
    assert (cancel.work_id, cancel.reason) == (work_id, "the round closed without it")


def work_of(store: Store, site: str) -> str:
    found = sqlalchemy.select(works.c.id).where(works.c.site == site, works.c.kind == "train")
    return str(store.db.read(lambda tx: tx.execute(found).scalar_one()))


def test_what_a_straggler_delivers_later_counts_for_nothing(store, make_site, slow):
    make_site("a")
    make_site("b")
    gate = slow("c")
    digest = one_round(store, begin(store, a_job(2, 2, 1, redundancy=1.5, clients="a,b,c")), 1)
    before = reports(store)[0]
    gate.set()
    wait_until(lambda: admitted_in(store, 2, "c") or len(reports(store)) > 1, timeout_s=20, what="round 2")
    assert reports(store)[0] == before
    assert digest


def admitted_in(store: Store, number: int, name: str) -> bool:
    return any(
        report["round"] == number and outcomes(report).get(name, ("", ""))[0] == "admitted"
        for report in reports(store)
    )


@pytest.mark.parametrize("redundancy", [1.0, 1.5])
def test_at_the_deadline_the_threshold_decides(store, make_site, slow, redundancy):
    make_site("a")
    slow("b")
    slow("c")
    wanted = 3 if redundancy == 1.0 else 2
    one_round(store, begin(store, a_job(1, wanted, 1, redundancy=redundancy, round_timeout=1)), 1)
    (report,) = reports(store)
    late = ("late", "no result within round_timeout, 1 s")
    assert outcomes(report) == {"a": ("admitted", ""), "b": late, "c": late}


def test_below_the_threshold_at_the_deadline_the_attempt_fails_and_names_the_late(store, make_site, slow):
    make_site("a")
    slow("b")
    with pytest.raises(
        RoundFailed, match=r"1 of at least 2 updates: b late \(no result within round_timeout, 1 s\)"
    ):
        one_round(store, begin(store, a_job(1, 2, 2, round_timeout=1)), 1)


def test_a_threshold_out_of_reach_ends_the_attempt_before_the_deadline(store, make_site, slow):
    def fails(order: WorkOrder, weights: Any) -> WorkResult:
        return WorkResult(status="failed", reason="exit code 1")

    make_site("a", fails)
    gate = slow("b")
    thread = in_a_thread(store, a_job(1, 2, 2))
    wait_until(
        lambda: reports(store) and reports(store)[0]["state"] == "failed", timeout_s=20, what="the end"
    )
    assert outcomes(reports(store)[0])["b"] == ("late", "the round closed without it")
    lifecycle.request_stop(store, "default", "j")
    gate.set()
    thread.join(20)
