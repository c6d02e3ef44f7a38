"""A whole run through the library: rounds, evaluation, checkpoints, resumption, failure."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from catchment.errors import JobStopped, LeaseLost, RoundFailed
from catchment.jobs import lifecycle, rows
from catchment.models.tensors import read_tensors
from catchment.rounds import checkpoints, collect, commit, evaluation, journal, prepare, run, select
from catchment.rounds.claim import claim_job
from catchment.store import Store
from catchment.wire.messages import WorkOrder, WorkResult
from tests.runs import begin, drive, one_round
from tests.thread_sites import add_one, job


def status(store: Store) -> dict[str, Any]:
    return lifecycle.get_job(store, "default", "j")["status"]


def test_preparing_a_run_begins_its_first_round_where_the_sites_are_there(store, make_site):
    claim = begin(store, job())
    assert prepare.begin_run(store, claim) == prepare.prepare_run(store, claim)
    assert not store.db.read(lambda tx: journal.latest_attempt(tx, claim, 1))
    make_site("a")
    make_site("b")
    prepare.begin_run(store, claim)
    first = run.round_report(store, claim, 1)
    assert first["state"] == "open"
    prepare.begin_run(store, claim)
    assert run.round_report(store, claim, 1)["started_at"] == first["started_at"]
    assert drive(store, claim)["rounds"] == job()["hyper_parameters"]["max_round_num"]


def test_a_run_averages_evaluates_saves_and_finishes(store, make_site):
    make_site("a")
    make_site("b")
    claim = begin(store, job())
    assert status(store)["state"] == "RUNNING"
    summary = drive(store, claim)
    shown = lifecycle.get_job(store, "default", "j")
    assert shown["status"] == {"state": "FINISHED", "reason": "", "progress": 100}
    assert summary["accuracy"] == [0.01, 0.02, 0.03]
    checkpoint = shown["checkpoints"]["checkpoint_v1"]
    assert checkpoint == {
        "accuracy": 0.03,
        "path": "out/j_V1/checkpoints/checkpoint_v1/checkpoint_3.safetensors",
    }
    folder = store.settings.home / "namespaces" / "default"
    saved = read_tensors(folder / checkpoint["path"])
    np.testing.assert_array_equal(saved["w"], np.full((2, 3), 3, np.float32))
    assert saved["steps"] == 3
    metrics = json.loads((folder / checkpoint["path"]).with_name("metrics.json").read_text())
    assert metrics["accuracy"] == 0.03
    assert metrics["sample_num"] == 8
    assert json.loads((folder / "out/j_V1/metrics.json").read_text())["accuracy"] == [0.01, 0.02, 0.03]


def test_the_commit_publishes_the_next_round(store, make_site):
    make_site("a")
    make_site("b")
    claim = begin(store, job())
    one_round(store, claim, 1)
    reports = lifecycle.job_rounds(store, "default", "j")
    assert [(report["round"], report["state"]) for report in reports] == [(1, "committed"), (2, "open")]
    assert reports[0]["sites"][0]["outcome"] == "admitted"
    assert status(store)["progress"] == 33


def test_every_step_may_be_run_twice(store, make_site):
    make_site("a")
    make_site("b")
    claim = begin(store, job(hyper_parameters={"max_round_num": 1}))
    for _ in range(2):
        select.select_cohort(store, claim, 1)
        select.publish_work(store, claim, 1)
    for _ in range(2):
        assert collect.collect_updates(store, claim, 1).admitted == 2
    digests = {commit.aggregate_and_commit(store, claim, 1) for _ in range(2)}
    assert len(digests) == 1
    assert evaluation.evaluate_round(store, claim, 1) == evaluation.evaluate_round(store, claim, 1)
    saved = {checkpoints.save_checkpoint(store, claim, 1).id for _ in range(2)}
    assert saved == {"checkpoint_v1"}


def test_one_bad_site_costs_its_own_update_and_is_named(store, make_site):
    def nan(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        update, metrics = add_one(order, weights)
        update["w"][0, 0] = np.nan
        return update, metrics

    make_site("a")
    make_site("b", train=nan)
    claim = begin(store, job(hyper_parameters={"max_round_num": 1, "threshold_client_num": 1}))
    drive(store, claim)
    outcomes = {site["site"]: site for site in lifecycle.job_rounds(store, "default", "j")[0]["sites"]}
    assert outcomes["a"]["outcome"] == "admitted"
    assert outcomes["b"]["outcome"] == "rejected"
    assert "w" in outcomes["b"]["reason"]


@pytest.mark.parametrize("samples", [0, -3, 2.5, True, 2**63, "ten", float("nan")])
def test_absurd_sample_numbers_are_rejected(store, make_site, samples):
    def lying(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        update, _ = add_one(order, weights)
        return update, {"sample_num": samples}

    make_site("a")
    make_site("b", train=lying)
    claim = begin(store, job(hyper_parameters={"max_round_num": 1, "threshold_client_num": 1}))
    one_round(store, claim, 1)
    outcomes = {
        site["site"]: site["outcome"] for site in lifecycle.job_rounds(store, "default", "j")[0]["sites"]
    }
    assert outcomes == {"a": "admitted", "b": "rejected"}


def test_below_the_threshold_a_round_is_tried_once_more_then_fails_with_the_reason(store, make_site):
    def failing(order: WorkOrder, weights: dict[str, np.ndarray]) -> WorkResult:
        return WorkResult(status="failed", reason="exit code 1")

    make_site("a")
    broken = make_site("b", train=failing)
    claim = begin(store, job())
    with pytest.raises(RoundFailed, match=r"of at least 2 updates: .*b failed \(exit code 1\)"):
        one_round(store, claim, 1)
    assert [order.attempt for order in broken.seen] == [0, 1]


def test_a_silent_site_is_lost_after_its_lease(store, make_site):
    import threading

    blocked = threading.Event()

    def hanging(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        blocked.wait(20)
        return WorkResult(status="failed", reason="too late")

    make_site("a")
    site = make_site("b", train=hanging)
    claim = begin(store, job(hyper_parameters={"max_round_num": 1, "threshold_client_num": 1}))
    site.over.set()
    one_round(store, claim, 1)
    blocked.set()
    outcomes = {row["site"]: row for row in lifecycle.job_rounds(store, "default", "j")[0]["sites"]}
    assert outcomes["b"]["outcome"] == "lost"
    assert "no sign of life" in outcomes["b"]["reason"]


def test_waiting_for_sites_says_why_and_ends(store, make_site):
    make_site("a")
    claim = begin(store, job(datasets="digits", hyper_parameters={"round_timeout": 1}))
    with pytest.raises(RoundFailed, match=r"waits for 2 sites that fit, 1 there: a; waited 1 s"):
        select.select_cohort(store, claim, 1)
    assert "waits for 2 sites" in status(store)["reason"]


def test_stop_ends_the_wait_and_start_goes_on_after_the_last_committed_round(store, make_site):
    make_site("a")
    make_site("b")
    claim = begin(store, job())
    first = one_round(store, claim, 1)
    lifecycle.request_stop(store, "default", "j")
    with pytest.raises(JobStopped):
        collect.collect_updates(store, claim, 2)
    run.stop_run(store, claim)
    assert status(store)["state"] == "STOPPED"
    start = lifecycle.request_start(store, "default", "j")
    assert start is not None
    assert start.resume
    assert start.run == 1
    again = claim_job(store, "default", "j", flow_run_id="another", attempt=1)
    prepare.prepare_run(store, again)
    assert run.remaining_rounds(store, again) == range(2, 4)
    assert lifecycle.job_rounds(store, "default", "j")[0]["state"] == "committed"
    drive(store, again)
    assert status(store)["state"] == "FINISHED"
    assert first


def test_a_second_process_takes_over_and_the_first_can_write_no_more(store, make_site):
    make_site("a")
    make_site("b")
    claim = begin(store, job())
    one_round(store, claim, 1)
    later = claim_job(store, "default", "j", flow_run_id="flow-run", attempt=2)
    with pytest.raises(LeaseLost):
        commit.aggregate_and_commit(store, claim, 2)
    drive(store, later)
    assert status(store)["state"] == "FINISHED"


def test_after_finished_a_start_begins_a_new_run_from_the_same_weights(store, make_site):
    make_site("a")
    make_site("b")
    drive(store, begin(store, job()))
    lifecycle.request_start(store, "default", "j")
    claim = claim_job(store, "default", "j", flow_run_id="second", attempt=1)
    prepare.prepare_run(store, claim)
    drive(store, claim)
    shown = lifecycle.get_job(store, "default", "j")["checkpoints"]
    assert shown["checkpoint_v2"]["path"] == "out/j_V2/checkpoints/checkpoint_v2/checkpoint_3.safetensors"
    assert shown["checkpoint_v2"]["accuracy"] == 0.03


def test_a_checkpoint_id_is_where_the_next_run_begins(store, make_site):
    make_site("a")
    make_site("b")
    drive(store, begin(store, job()))
    lifecycle.update_job(store, "default", "j", job(checkpoint_id="checkpoint_v1"))
    lifecycle.request_start(store, "default", "j")
    claim = claim_job(store, "default", "j", flow_run_id="second", attempt=1)
    prepare.prepare_run(store, claim)
    summary = drive(store, claim)
    assert summary["accuracy"] == [0.04, 0.05, 0.06]


def test_delete_removes_folders_rows_and_blobs(store, make_site):
    make_site("a")
    make_site("b")
    drive(store, begin(store, job()))
    lifecycle.request_delete(store, "default", "j")
    from catchment.jobs import purge

    row = store.db.read(lambda tx: purge.rows.find(tx, "default", "j"))
    if row is not None:
        purge.purge_job(store, row.uid)
    folder = store.settings.home
    assert not (folder / "namespaces/default/out/j_V1").exists()
    blobs = [path for path in (folder / "blobs").rglob("*") if path.is_file()]
    assert blobs == []
    assert lifecycle.list_jobs(store, "default") == []


def test_updates_of_a_committed_round_are_not_kept(store, make_site):
    make_site("a")
    make_site("b")
    drive(store, begin(store, job()))
    blobs = [path for path in (store.settings.home / "blobs" / "sha256").rglob("*") if path.is_file()]
    # the initial weights, the last round's weights before and after it
    assert len(blobs) <= 3


def test_a_process_that_comes_up_after_the_job_was_stopped_does_not_start_it_again(store):
    lifecycle.create_job(store, "default", job())
    start = lifecycle.request_start(store, "default", "j")
    assert start is not None
    lifecycle.launched(store, start.uid, "late")
    store.db.write(lambda tx: rows.end(tx, start.uid, rows.JobState.STOPPED))
    with pytest.raises(JobStopped, match="STOPPED already"):
        claim_job(store, "default", "j", flow_run_id="late", attempt=1)
    assert status(store)["state"] == "STOPPED"
    # A person who retries that run in Prefect means it.
    claim_job(store, "default", "j", flow_run_id="late", attempt=2)
    assert status(store)["state"] == "RUNNING"
