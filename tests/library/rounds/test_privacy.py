"""Differential privacy through whole rounds: what is done to the sums, told, hidden, and when a run ends."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from catchment.errors import BudgetSpent
from catchment.jobs import lifecycle, log
from catchment.models.tensors import read_tensors
from catchment.privacy.accountant import Release, cost
from catchment.rounds import collect, commit, evaluation, prepare, privacy, run, select
from catchment.rounds.claim import Claim, claim_job
from catchment.store import Store
from catchment.wire.messages import WorkOrder
from tests.thread_sites import job

LARGE = 200_000


def begin(store: Store, body: dict[str, Any]) -> Claim:
    lifecycle.create_job(store, "default", body)
    return started(store)


def started(store: Store) -> Claim:
    start = lifecycle.request_start(store, "default", "j")
    assert start is not None
    lifecycle.launched(store, start.uid, f"flow-run-{start.key}")
    claim = claim_job(store, "default", "j", flow_run_id=f"flow-run-{start.key}", attempt=1)
    prepare.prepare_run(store, claim)
    return claim


def collected(store: Store, claim: Claim, number: int) -> None:
    select.select_cohort(store, claim, number)
    select.publish_work(store, claim, number)
    assert collect.collect_updates(store, claim, number).enough


def one_round(store: Store, claim: Claim, number: int) -> dict[str, np.ndarray]:
    collected(store, claim, number)
    return weights_of(store, commit.aggregate_and_commit(store, claim, number))


def weights_of(store: Store, digest: str) -> dict[str, np.ndarray]:
    return read_tensors(store.blobs.local_path(digest))


def private(rounds: int = 3, clients: int = 2, **fields: Any) -> dict[str, Any]:
    return job(
        secure_algorithm={"type": "DP", "noise_multiplier": 1.0, "clip_norm": 1.0, **fields},
        hyper_parameters={"max_round_num": rounds, "client_num": clients, "threshold_client_num": clients},
    )


def moves(by: float, sample_num: int = 10) -> Any:
    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        update = {"w": np.full_like(weights["w"], by), "steps": weights["steps"] + order.round}
        return update, {"sample_num": sample_num, "loss": by}

    return train


def record(store: Store, number: int = 1) -> dict[str, Any]:
    found = lifecycle.job_rounds(store, "default", "j")[number - 1]["privacy"]
    assert isinstance(found, dict)
    return found


def shown(store: Store) -> dict[str, Any]:
    return lifecycle.get_job(store, "default", "j")


def large_model(store: Store) -> None:
    path = store.settings.home / "namespaces/default/models/init.safetensors"
    from catchment.models.tensors import write_tensors

    path.unlink()
    write_tensors(path, {"w": np.zeros(LARGE, np.float32), "steps": np.array(5)})


def test_each_update_is_clipped_counts_alike_and_the_denominator_is_fixed(store, make_site):
    make_site("a", train=moves(100.0, sample_num=1))
    make_site("b", train=moves(0.1, sample_num=1000))
    new = one_round(store, begin(store, private(noise_multiplier=0)), 1)
    # a is clipped to norm 1 over six elements, b (norm .245) passes as it is; samples do not matter.
    np.testing.assert_allclose(new["w"], (1 / np.sqrt(6) + 0.1) / 2, rtol=1e-6)


def test_what_is_missing_counts_as_nothing_not_as_a_smaller_cohort(store, make_site):
    make_site("a", train=moves(0.1))
    body = private(noise_multiplier=0)
    body["hyper_parameters"] |= {"client_num": 4, "threshold_client_num": 1}
    make_site("b", train=moves(0.1))
    make_site("c", train=moves(0.1))
    make_site("d", train=moves(float("nan")))
    new = one_round(store, begin(store, body), 1)
    np.testing.assert_allclose(new["w"], 3 * 0.1 / 4, rtol=1e-6)
    assert record(store)["denominator"] == 4


def test_counters_keep_the_rounds_values(store, make_site):
    make_site("a", train=moves(3.0))
    make_site("b", train=moves(3.0))
    assert one_round(store, begin(store, private()), 1)["steps"] == 0


@pytest.mark.parametrize("placement", ["central", "site"])
def test_the_noise_on_the_mean_is_the_multiplier_times_the_clip_over_the_cohort(store, make_site, placement):
    large_model(store)
    make_site("a", train=moves(0.0))
    make_site("b", train=moves(0.0))
    claim = begin(store, private(noise_multiplier=3.0, clip_norm=0.5, placement=placement))
    new = one_round(store, claim, 1)["w"]
    assert new.std() == pytest.approx(3.0 * 0.5 / 2, rel=0.015)  # six times its own error
    assert abs(new.mean()) < 6 * 0.75 / np.sqrt(LARGE)
    told = record(store)
    assert told["mean_noise_std"] == pytest.approx(0.75)
    assert told["noise_std"] == pytest.approx(1.5)


def test_an_update_that_a_site_sends_is_noised_already(store, make_site):
    large_model(store)
    sites = [make_site(name, train=moves(0.0)) for name in "ab"]
    claim = begin(store, private(noise_multiplier=3.0, clip_norm=0.5, placement="site"))
    collected(store, claim, 1)
    for site in sites:
        (order,) = site.seen
        assert order.privacy is not None
        sent = read_tensors(site.folder / f"{order.work_id}.safetensors")
        assert sent["w"].std() == pytest.approx(1.5 / np.sqrt(2), rel=0.015)
        assert sent["steps"] == 0


def test_without_a_clip_each_update_has_the_documents_variance(store, make_site):
    large_model(store)
    make_site("a", train=moves(0.0, sample_num=30))
    make_site("b", train=moves(0.0, sample_num=10))
    body = private(noise_multiplier=4.0)
    del body["secure_algorithm"]["clip_norm"]
    new = one_round(store, begin(store, body), 1)["w"]
    share = np.array([0.5, 0.5])  # under DP all count alike
    assert new.std() == pytest.approx(2.0 * np.sqrt((share**2).sum()), rel=0.015)
    assert record(store)["epsilon"] is None
    assert "clip_norm is not set" in record(store)["guarantee"]


def test_the_same_noise_for_a_tensor_is_no_guarantee(store, make_site):
    make_site("a", train=moves(0.0))
    make_site("b", train=moves(0.0))
    new = one_round(store, begin(store, private(adding_same_noise=True)), 1)["w"]
    assert new.flat[0] != 0.0
    assert len(set(new.reshape(-1).tolist())) == 1
    assert record(store)["epsilon"] is None
    assert shown(store)["privacy"]["guarantee"].startswith("no guarantee: adding_same_noise")


def test_epsilon_grows_with_each_round_and_get_shows_it(store, make_site):
    make_site("a", train=moves(0.1))
    make_site("b", train=moves(0.1))
    claim = begin(store, private(noise_multiplier=4.0, delta=1e-6))
    before = shown(store)["privacy"]
    assert before["epsilon"] == 0.0
    for number in (1, 2, 3):
        one_round(store, claim, number)
        expected = cost([Release(4.0)] * number, 1e-6).epsilon
        assert record(store, number)["epsilon"] == pytest.approx(expected)
        assert shown(store)["privacy"]["epsilon"] == pytest.approx(expected)
        assert lifecycle.list_jobs(store, "default")[0]["privacy"]["epsilon"] == pytest.approx(expected)
    assert shown(store)["privacy"]["delta"] == 1e-6
    json.dumps(lifecycle.job_rounds(store, "default", "j"), allow_nan=False)


def test_a_random_cohort_is_drawn_anew_and_counted_as_sampling(store, make_site):
    for index in range(8):
        make_site(f"s{index}", train=moves(0.1))
    body = {**private(rounds=1, clients=2, noise_multiplier=2.0), "random_client": True}
    one_round(store, begin(store, body), 1)
    told = record(store)
    assert told["selection"] == {"chosen": 2, "population": 8, "uniform": True}
    assert told["release"]["sampling"] == "fixed_size"


@pytest.mark.parametrize("changes", [{}, {"random_client": True, "untrained_first": True}])
def test_other_cohorts_amplify_nothing(store, make_site, changes):
    for index in range(4):
        make_site(f"s{index}", train=moves(0.1))
    one_round(store, begin(store, {**private(rounds=1), **changes}), 1)
    assert record(store)["release"]["sampling"] == "all"


def test_nothing_of_a_single_site_is_shown(store, make_site):
    secret = 0.123456

    def tells(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        return moves(0.1)(order, weights)[0], {"sample_num": 77123, "loss": secret}

    make_site("a", train=tells, evaluate=lambda order, weights: ({}, {"sample_num": 77123, "loss": secret}))
    make_site("b", train=moves(0.2))
    claim = begin(store, private(rounds=1))
    one_round(store, claim, 1)
    evaluation.evaluate_round(store, claim, 1)
    report = lifecycle.job_rounds(store, "default", "j")[0]
    assert {site["outcome"] for site in report["sites"]} == {"admitted"}
    text = json.dumps(report) + json.dumps(lines(store))
    assert "77123" not in text
    assert str(secret) not in text
    assert report["training_metrics"] == {"loss": pytest.approx((secret * 77123 + 0.2 * 10) / 77133)}


def lines(store: Store) -> list[str]:
    return [str(line) for line in log.read(store, log.uid_of(store, "default", "j")).lines]


def test_metrics_may_be_kept_out_altogether(store, make_site):
    make_site("a", train=moves(0.1))
    make_site("b", train=moves(0.1))
    claim = begin(store, private(rounds=1, metrics="none"))
    one_round(store, claim, 1)
    assert evaluation.evaluate_round(store, claim, 1) is None
    report = lifecycle.job_rounds(store, "default", "j")[0]
    assert report["training_metrics"] == {}
    assert report["metrics"] is None


def test_the_mean_of_a_single_site_is_not_shown(store, make_site):
    make_site("a", train=moves(0.1))
    claim = begin(store, private(rounds=1, clients=1))
    one_round(store, claim, 1)
    assert lifecycle.job_rounds(store, "default", "j")[0]["training_metrics"] == {}


def test_adaptive_clipping_moves_the_norm_from_round_to_round(store, make_site):
    make_site("a", train=moves(100.0))
    make_site("b", train=moves(100.0))
    fields = {"noise_multiplier": 0.001, "adaptive_clipping": {"count_noise": 0.01, "rate": 1.0}}
    claim = begin(store, private(**fields))
    one_round(store, claim, 1)
    first = record(store)
    assert first["clip_norm"] == 1.0
    assert first["clipped_share"] > 0.9
    assert first["next_clip_norm"] == pytest.approx(np.exp(0.5), rel=0.1)
    new = one_round(store, claim, 2)
    second = record(store, 2)
    assert second["clip_norm"] == first["next_clip_norm"]
    total = (1.0 + second["clip_norm"]) / np.sqrt(6)
    np.testing.assert_allclose(new["w"], total, rtol=0.05)


def test_who_was_clipped_is_not_told_without_noise_on_it(store, make_site):
    make_site("a", train=moves(100.0))
    make_site("b", train=moves(0.0))
    one_round(store, begin(store, private()), 1)
    assert record(store)["clipped_share"] is None


def test_a_run_ends_before_the_round_that_would_break_its_budget(store, make_site):
    make_site("a", train=moves(0.1))
    make_site("b", train=moves(0.1))
    budget = cost([Release(2.0)] * 2, 1e-5).epsilon * 1.01
    claim = begin(store, private(rounds=50, noise_multiplier=2.0, epsilon_budget=budget))
    one_round(store, claim, 1)
    assert privacy.budget_spent(store, claim, 2) == ""
    one_round(store, claim, 2)
    reason = privacy.budget_spent(store, claim, 3)
    assert "epsilon_budget" in reason
    assert [report["round"] for report in lifecycle.job_rounds(store, "default", "j")] == [1, 2]
    with pytest.raises(BudgetSpent):
        select.select_cohort(store, claim, 3)
    run.finish_run(store, claim, reason)
    assert shown(store)["status"] == {"state": "FINISHED", "reason": reason, "progress": 100}
    assert shown(store)["privacy"]["epsilon"] <= budget


def test_a_new_run_goes_on_paying_from_the_same_budget(store, make_site):
    make_site("a", train=moves(0.1))
    make_site("b", train=moves(0.1))
    budget = cost([Release(2.0)] * 2, 1e-5).epsilon * 1.01
    claim = begin(store, private(rounds=1, noise_multiplier=2.0, epsilon_budget=budget))
    one_round(store, claim, 1)
    run.finish_run(store, claim)
    claim = started(store)
    one_round(store, claim, 1)
    assert record(store)["epsilon"] == pytest.approx(cost([Release(2.0)] * 2, 1e-5).epsilon)
    run.finish_run(store, claim)
    assert "allows no further round" in privacy.budget_spent(store, started(store), 1)


def test_rounds_without_noise_before_are_not_forgotten(store, make_site):
    make_site("a", train=moves(0.1))
    make_site("b", train=moves(0.1))
    claim = begin(store, {**private(rounds=1), "secure_algorithm": None})
    one_round(store, claim, 1)
    run.finish_run(store, claim)
    lifecycle.update_job(store, "default", "j", private(rounds=1))
    one_round(store, started(store), 1)
    assert record(store)["epsilon"] is None
    assert "1 earlier rounds of the job were committed without one" in record(store)["guarantee"]


def test_a_resumed_aggregation_draws_new_noise_and_only_the_commit_is_seen(store, make_site, monkeypatch):
    make_site("a", train=moves(0.1))
    make_site("b", train=moves(0.1))
    claim = begin(store, private(rounds=1))
    collected(store, claim, 1)
    made = []
    inner = commit.aggregate_round

    def dies(*args: Any) -> Any:
        made.append(inner(*args).weights)
        raise KeyboardInterrupt

    monkeypatch.setattr(commit, "aggregate_round", dies)
    with pytest.raises(KeyboardInterrupt):
        commit.aggregate_and_commit(store, claim, 1)
    monkeypatch.undo()
    assert lifecycle.job_rounds(store, "default", "j")[0]["state"] == "open"
    digest = commit.aggregate_and_commit(store, claim, 1)
    assert digest != made[0]
    assert commit.aggregate_and_commit(store, claim, 1) == digest
    assert record(store)["epsilon"] == pytest.approx(cost([Release(1.0)], 1e-5).epsilon)


def test_noise_that_overflows_fails_the_round_and_changes_nothing(store, make_site):
    from catchment.errors import BadTensors

    make_site("a", train=moves(0.1))
    make_site("b", train=moves(0.1))
    claim = begin(store, private(rounds=1, clip_norm=1e300, noise_multiplier=1e300))
    collected(store, claim, 1)
    with pytest.raises(BadTensors, match="not finite"):
        commit.aggregate_and_commit(store, claim, 1)
    assert lifecycle.job_rounds(store, "default", "j")[0]["state"] == "open"
