"""The flow in this process, against a real Prefect server: runs, states, artifacts."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.sorting import FlowRunSort

from catchment.errors import BudgetSpent, RoundFailed
from catchment.jobs import lifecycle
from catchment.models.tensors import read_tensors
from catchment.wire.messages import WorkOrder, WorkResult
from flows.federate import federate
from tests.thread_sites import add_one, job


def runs_of(name: str) -> tuple[object, list[object]]:
    with get_client(sync_client=True) as client:
        order = {"sort": FlowRunSort.NAME_ASC, "limit": 50}
        (parent,) = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])), **order
        )
        children = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent.id])),
            **order,
        )
    return parent, children


def test_a_job_is_a_flow_run_with_a_subflow_for_each_round(flow_store, make_site):
    make_site("a")
    make_site("b")
    lifecycle.create_job(flow_store, "default", job(id="whole"))
    digest = asyncio.run(federate("whole"))
    assert digest.startswith("sha256:")
    assert lifecycle.get_job(flow_store, "default", "whole")["status"]["state"] == "FINISHED"
    parent, children = runs_of("whole")
    assert parent.state_name == "Completed"
    assert [child.name for child in children] == ["whole round 1", "whole round 2", "whole round 3"]
    assert {child.state_name for child in children} == {"Completed"}


def test_a_round_below_its_threshold_fails_flow_and_job_with_the_reason(flow_store, make_site):
    def failing(order: WorkOrder, weights: object) -> WorkResult:
        return WorkResult(status="failed", reason="exit code 1")

    make_site("a")
    make_site("b", train=failing)
    lifecycle.create_job(flow_store, "default", job(id="broken"))
    with pytest.raises(RoundFailed):
        asyncio.run(federate("broken"))
    shown = lifecycle.get_job(flow_store, "default", "broken")["status"]
    assert shown["state"] == "FAILED"
    assert "b failed (exit code 1)" in shown["reason"]
    parent, _ = runs_of("broken")
    assert parent.state_name == "Failed"


def test_a_stop_ends_flow_and_job_without_a_failure(flow_store, make_site):
    def stops_in_the_middle(order: WorkOrder, weights: dict) -> object:
        if order.round == 2:
            lifecycle.request_stop(flow_store, "default", "halted")
        return add_one(order, weights)

    make_site("a", train=stops_in_the_middle)
    lifecycle.create_job(
        flow_store, "default", job(id="halted", hyper_parameters={"client_num": 1, "threshold_client_num": 1})
    )
    asyncio.run(federate("halted", return_state=True))
    assert lifecycle.get_job(flow_store, "default", "halted")["status"]["state"] == "STOPPED"
    parent, _ = runs_of("halted")
    assert parent.state_name == "Cancelled"


def test_artifacts_show_progress_each_round_and_the_result(flow_store, make_site, prefect_server):
    make_site("a")
    make_site("b")
    lifecycle.create_job(flow_store, "default", job(id="shown", hyper_parameters={"max_round_num": 1}))
    asyncio.run(federate("shown"))
    keys = ["job-default-shown", "round-default-shown-1", "result-default-shown"]
    answer = httpx.post(f"{prefect_server}/artifacts/filter", json={"artifacts": {"key": {"any_": keys}}})
    by_key = {artifact["key"]: artifact["data"] for artifact in answer.json()}
    assert by_key["job-default-shown"] == 100
    assert "admitted" in str(by_key["round-default-shown-1"])
    assert "checkpoint_v1" in str(by_key["result-default-shown"])


def controlled(order: WorkOrder, weights: dict) -> object:
    """A training that sends a control variate where the order names SCAFFOLD."""
    update, metrics = add_one(order, weights)
    if order.strategy is not None and order.strategy.name == "scaffold":
        update["@control/w"] = np.full_like(weights["w"], 0.5)
    return update, metrics


@pytest.mark.parametrize(
    ("name", "chosen", "weight"),
    [
        ("fedavgm", {"strategy": {"name": "fedavgm", "params": {"momentum": 0.5}}}, 1 + 1.5 + 1.75),
        ("krum", {"strategy": {"name": "krum"}}, 3.0),
        ("scaffold", {"optimizer": {"name": "scaffold"}}, 3.0),
    ],
)
def test_a_job_with_an_algorithm_of_its_own_runs_to_its_end(flow_store, make_site, name, chosen, weight):
    for site in ("a", "b", "c"):
        make_site(site, train=controlled)
    body = job(id=name, **chosen, hyper_parameters={"client_num": 3, "threshold_client_num": 3})
    lifecycle.create_job(flow_store, "default", body)
    digest = asyncio.run(federate(name))
    new = read_tensors(flow_store.blobs.local_path(digest))
    np.testing.assert_allclose(new["w"], np.full((2, 3), weight), rtol=1e-6)
    reports = lifecycle.job_rounds(flow_store, "default", name)
    assert [report["strategy"]["name"] for report in reports] == [name] * 3


def test_a_private_run_ends_at_its_budget_evaluated_saved_and_with_the_reason(
    flow_store, make_site, prefect_server
):
    def differing(order: WorkOrder, weights: dict) -> object:
        """Counters keep their values under DP; without this all rounds' updates would be the same bytes."""
        update, metrics = add_one(order, weights)
        return {**update, "steps": np.array(order.round)}, metrics

    make_site("a", train=differing)
    make_site("b", train=differing)
    private = {"type": "DP", "noise_multiplier": 4.0, "clip_norm": 1.0, "epsilon_budget": 2.0}
    hyper = {"max_round_num": 20, "evaluate_interval": 20, "save_interval": 20}
    lifecycle.create_job(
        flow_store, "default", job(id="budget", secure_algorithm=private, hyper_parameters=hyper)
    )
    digest = asyncio.run(federate("budget"))
    shown = lifecycle.get_job(flow_store, "default", "budget")
    assert shown["status"]["state"] == "FINISHED"
    assert shown["status"]["reason"].startswith("epsilon_budget, 2, allows no further round")
    assert 0 < shown["privacy"]["epsilon"] <= 2.0
    reports = lifecycle.job_rounds(flow_store, "default", "budget")
    assert {report["state"] for report in reports} == {"committed"}
    assert 1 <= len(reports) < 20
    assert reports[-1]["metrics"]["accuracy"] == shown["checkpoints"]["checkpoint_v1"]["accuracy"]
    assert digest.startswith("sha256:")
    parent, children = runs_of("budget")
    assert parent.state_name == "Completed"
    assert {child.state_name for child in children} == {"Completed"}
    keys = ["round-default-budget-1", "result-default-budget"]
    answer = httpx.post(f"{prefect_server}/artifacts/filter", json={"artifacts": {"key": {"any_": keys}}})
    by_key = {artifact["key"]: artifact for artifact in answer.json()}
    assert "client-level (epsilon" in by_key["round-default-budget-1"]["description"]
    assert "| round | epsilon |" in by_key["result-default-budget"]["data"]


def test_a_budget_below_one_round_fails_before_any_site_trains(flow_store, make_site):
    site = make_site("a")
    make_site("b")
    private = {"type": "DP", "noise_multiplier": 1.0, "clip_norm": 1.0, "epsilon_budget": 1.0}
    lifecycle.create_job(flow_store, "default", job(id="poor", secure_algorithm=private))
    with pytest.raises(BudgetSpent):
        asyncio.run(federate("poor"))
    shown = lifecycle.get_job(flow_store, "default", "poor")["status"]
    assert shown["state"] == "FAILED"
    assert "epsilon_budget, 1, allows no further round" in shown["reason"]
    assert site.seen == []
