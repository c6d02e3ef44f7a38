"""Hard cases of reports, through whole rounds; docs/hard_cases.md says which cases are tested where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from catchment.errors import RoundFailed
from catchment.jobs import lifecycle
from catchment.models.tensors import read_tensors
from catchment.rounds import prepare
from catchment.wire.messages import WorkOrder
from tests.runs import begin, one_round
from tests.secure_rounds import lines
from tests.thread_sites import add_one, job


def reports(samples: Any) -> Any:
    """A training with this number of samples; None: without any metric."""

    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        update, _ = add_one(order, weights)
        return update, {} if samples is None else {"sample_num": samples}

    return train


def outcomes(store: Any) -> dict[str, str]:
    shown = lifecycle.job_rounds(store, "default", "j")[0]["sites"]
    return {site["site"]: site["outcome"] for site in shown}


def test_a_report_of_no_samples_counts_neither_in_the_mean_nor_for_the_threshold(store, make_site):
    make_site("a", train=reports(10))
    make_site("b", train=reports(0))
    one_round(store, begin(store, job(hyper_parameters={"threshold_client_num": 1})), 1)
    assert outcomes(store) == {"a": "admitted", "b": "rejected"}


def test_a_round_in_which_nobody_has_samples_fails_and_the_model_is_as_before(store, make_site):
    make_site("a", train=reports(0))
    make_site("b", train=reports(0))
    claim = begin(store, job(hyper_parameters={"threshold_client_num": 1}))
    with pytest.raises(RoundFailed, match="sample_num"):
        one_round(store, claim, 1)
    weights = read_tensors(store.blobs.local_path(prepare.prepare_run(store, claim)))
    assert not weights["w"].any()
    assert not any(report["state"] == "committed" for report in lifecycle.job_rounds(store, "default", "j"))


def test_a_report_without_metrics_counts_as_one_sample(store, make_site):
    make_site("a", train=reports(None))
    make_site("b", train=reports(3))
    one_round(store, begin(store, job()), 1)
    assert outcomes(store) == {"a": "admitted", "b": "admitted"}
    assert lifecycle.job_rounds(store, "default", "j")[0]["training_metrics"]["sample_num"] == 4


@pytest.mark.parametrize(("samples", "said"), [(10**9, True), (20, False)])
def test_a_site_that_claims_nearly_all_samples_is_named_in_the_jobs_log(store, make_site, samples, said):
    make_site("a", train=reports(10))
    make_site("b", train=reports(10))
    make_site("c", train=reports(samples))
    claim = begin(store, job(hyper_parameters={"client_num": 3}))
    one_round(store, claim, 1)
    assert (f"c reports {samples} of the round's {samples + 20} samples" in lines(store, claim)) is said


def test_where_all_count_alike_no_number_of_samples_is_worth_a_word(store, make_site):
    for name, samples in (("a", 1), ("b", 1), ("c", 10**9)):
        make_site(name, train=reports(samples))
    uniform = {"name": "fedavg", "params": {"weighting": "uniform"}}
    claim = begin(store, job(hyper_parameters={"client_num": 3}, strategy=uniform))
    one_round(store, claim, 1)
    assert "decides nearly alone" not in lines(store, claim)
