"""Finite but absurd updates: the site is named, and the others' round goes on where they are enough."""

from __future__ import annotations

import numpy as np
import pytest

from catchment.errors import RoundFailed
from catchment.jobs import lifecycle
from catchment.models.tensors import read_tensors
from catchment.rounds import collect, commit, prepare, select
from catchment.rounds.claim import Claim, claim_job
from catchment.store import Store
from tests.thread_sites import add_one, job


def absurd(order, weights):
    """Each value is finite, the weights after two such rounds would not be."""
    update, metrics = add_one(order, weights)
    return {**update, "w": np.full_like(weights["w"], 3e38)}, metrics


def begun(store: Store, threshold: int) -> Claim:
    # A learning rate of the server above 1 makes of the largest finite value more than that.
    hyper = {"client_num": 3, "threshold_client_num": threshold, "max_round_num": 1, "learning_rate": 4.0}
    lifecycle.create_job(store, "default", job(hyper_parameters=hyper))
    claim = claim_job(store, "default", "j", flow_run_id="run", attempt=1)
    prepare.prepare_run(store, claim)
    select.select_cohort(store, claim, 1)
    select.publish_work(store, claim, 1)
    assert collect.collect_updates(store, claim, 1).admitted == 3
    return claim


def outcomes(store: Store) -> dict[str, tuple[str, str]]:
    report = lifecycle.job_rounds(store, "default", "j")[0]
    return {site["site"]: (site["outcome"], site["reason"]) for site in report["sites"]}


def test_the_others_round_is_committed_without_it(store, make_site):
    make_site("a")
    make_site("b", train=absurd)
    make_site("c")
    claim = begun(store, threshold=2)
    digest = commit.aggregate_and_commit(store, claim, 1)
    found = outcomes(store)
    assert (found["a"][0], found["b"][0], found["c"][0]) == ("admitted", "rejected", "admitted")
    assert "with this update, tensor 'w'" in found["b"][1]
    np.testing.assert_array_equal(read_tensors(store.blobs.local_path(digest))["w"], np.full((2, 3), 4))
    assert lifecycle.job_rounds(store, "default", "j")[0]["metrics"] is None
    left = [path for path in (store.settings.home / "blobs").rglob("*") if path.is_file()]
    assert len(left) == 2, "the initial weights and the new ones; what was tried is gone"


def test_too_few_others_fail_the_round_and_the_site_is_named(store, make_site):
    make_site("a")
    make_site("b", train=absurd)
    make_site("c")
    claim = begun(store, threshold=3)
    with pytest.raises(RoundFailed, match=r"round 1 has 2 of at least 3 updates that can be used: b: "):
        commit.aggregate_and_commit(store, claim, 1)
    assert outcomes(store)["b"][0] == "rejected"
    assert [path for path in store.blobs.staging_folder.rglob("*") if path.is_file()] == []
