"""Runs of jobs through the library's own steps, as the flow calls them."""

from __future__ import annotations

from typing import Any

from catchment.jobs import lifecycle
from catchment.rounds import checkpoints, collect, commit, evaluation, prepare, run, select
from catchment.rounds.claim import Claim, claim_job
from catchment.store import Store


def begin(store: Store, body: dict[str, Any], attempt: int = 1) -> Claim:
    lifecycle.create_job(store, "default", body)
    start = lifecycle.request_start(store, "default", body["id"])
    assert start is not None
    lifecycle.launched(store, start.uid, "flow-run")
    claim = claim_job(store, "default", body["id"], flow_run_id="flow-run", attempt=attempt)
    prepare.prepare_run(store, claim)
    return claim


def one_round(store: Store, claim: Claim, number: int) -> str:
    for _ in range(3):
        select.select_cohort(store, claim, number)
        select.publish_work(store, claim, number)
        if collect.collect_updates(store, claim, number).enough:
            break
    digest = commit.aggregate_and_commit(store, claim, number)
    evaluate, save = run.steps_due(store, claim, number)
    if evaluate:
        evaluation.evaluate_round(store, claim, number)
    if save:
        checkpoints.save_checkpoint(store, claim, number)
    return digest


def drive(store: Store, claim: Claim) -> dict[str, Any]:
    for number in run.remaining_rounds(store, claim):
        one_round(store, claim, number)
    return run.finish_run(store, claim)
