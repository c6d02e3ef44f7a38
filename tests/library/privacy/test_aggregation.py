"""Noise around strategies, over files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catchment.errors import BadTensors
from catchment.models.tensors import read_tensors
from catchment.privacy.aggregation import PrivateSum
from catchment.privacy.plan import Plan
from catchment.strategies.base import LinearStrategy
from catchment.strategies.fedavg import FedAvg
from catchment.strategies.plan import STRATEGIES
from tests.strategy_rounds import Arrays, aggregate

SIZE = 5
WEIGHTS: Arrays = {"w": np.zeros(SIZE), "n": np.array(4)}


def uniform(name: str = "fedavg", **params: Any) -> LinearStrategy:
    strategy = STRATEGIES[name](**params)
    assert isinstance(strategy, LinearStrategy)
    strategy.weighting = "uniform"
    return strategy


def new_weights(
    folder: Path, plan: Plan, values: list[list[float]], weights: Arrays | None = None, **params: Any
) -> Arrays:
    strategy = PrivateSum(uniform(**params), plan, plan.clip_norm)
    updates = [(7 + index, {"w": np.array(each), "n": np.array(99)}) for index, each in enumerate(values)]
    return read_tensors(aggregate(folder, strategy, weights or WEIGHTS, updates)[0])


FINITE = st.floats(-1e6, 1e6)
UPDATES = st.lists(st.lists(FINITE, min_size=SIZE, max_size=SIZE), min_size=2, max_size=5)


@given(UPDATES, st.lists(FINITE, min_size=SIZE, max_size=SIZE), st.floats(0.01, 100))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_client_moves_the_mean_by_at_most_the_clip_over_the_cohort(
    tmp_path: Path, values: list[list[float]], other: list[float], clip: float
) -> None:
    plan = Plan(0.0, clip_norm=clip, cohort=4)
    whole = new_weights(tmp_path, plan, values)["w"]
    without = new_weights(tmp_path, plan, values[:-1])["w"]
    replaced = new_weights(tmp_path, plan, [*values[:-1], other])["w"]
    rounding = 1e-12 * clip * len(values)
    assert np.linalg.norm(whole - without) <= clip / 4 + rounding
    assert np.linalg.norm(whole - replaced) <= 2 * clip / 4 + rounding


def test_neither_samples_nor_the_number_of_reports_are_in_the_result(tmp_path: Path) -> None:
    found = new_weights(tmp_path, Plan(0.0, clip_norm=10.0, cohort=5), [[1.0] * SIZE, [2.0] * SIZE])
    np.testing.assert_allclose(found["w"], 3 / 5)
    assert found["n"] == 4


def test_float_buffers_are_clipped_and_noised_with_the_rest(tmp_path: Path) -> None:
    size = 100_000
    weights = {"bn.running_mean": np.zeros(size, np.float32), "w": np.zeros(2)}
    updates = [(1, {"bn.running_mean": np.full(size, 3.0, np.float32), "w": np.ones(2)})]
    strategy = PrivateSum(uniform(), Plan(5.0, clip_norm=1.0, cohort=1), 1.0)
    found = read_tensors(aggregate(tmp_path, strategy, weights, updates)[0])
    assert found["bn.running_mean"].std() == pytest.approx(5.0, rel=0.02)
    assert strategy.noised.unclipped == 0


@pytest.mark.parametrize("name", ["fedavg", "fedavgm", "fedadam", "fedyogi", "fedadagrad"])
def test_every_linear_strategy_gets_the_noised_mean_and_no_more(tmp_path: Path, name: str) -> None:
    values = [[100.0] * SIZE, [-3.0, 0, 0, 0, 0]]
    clipped = [np.array(each) / max(1.0, float(np.linalg.norm(each))) for each in values]
    mean = (clipped[0] + clipped[1]) / 2
    plain = aggregate(tmp_path, uniform(name), WEIGHTS, [(1, {"w": mean, "n": np.array(4)})])[0]
    expected = read_tensors(plain)["w"]
    found = new_weights(tmp_path, Plan(0.0, clip_norm=1.0, cohort=2), values, name=name)["w"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_what_is_not_shared_is_neither_noised_nor_changed(tmp_path: Path) -> None:
    weights = {"head": np.arange(3.0), "w": np.zeros(SIZE)}
    strategy = PrivateSum(uniform(local=["head"]), Plan(1.0, clip_norm=1.0), 1.0)
    found = read_tensors(aggregate(tmp_path, strategy, weights, [(1, {"w": np.ones(SIZE)})])[0])
    assert found["head"].tolist() == [0.0, 1.0, 2.0]
    assert (found["w"] != 0).all()


def test_an_update_of_endless_norm_counts_nothing(tmp_path: Path) -> None:
    found = new_weights(tmp_path, Plan(0.0, clip_norm=1.0, cohort=2), [[1e200] * SIZE, [0.1] * SIZE])
    np.testing.assert_allclose(found["w"], 0.05)


def test_a_round_without_updates_fails(tmp_path: Path) -> None:
    with pytest.raises(BadTensors, match="no samples"):
        new_weights(tmp_path, Plan(1.0, clip_norm=1.0), [])


def test_updates_that_the_sites_have_clipped_are_not_clipped_again(tmp_path: Path) -> None:
    plan = Plan(1.0, clip_norm=1.0, cohort=2, threshold=2, placement="site")
    strategy = PrivateSum(uniform(), plan, 1.0)
    updates = [(1, {"w": np.full(SIZE, 40.0), "n": np.array(0)}) for _ in range(2)]
    found = read_tensors(aggregate(tmp_path, strategy, WEIGHTS, updates)[0])
    np.testing.assert_array_equal(found["w"], np.full(SIZE, 40.0))
    assert strategy.noised.noise_std == 0.0


def test_each_aggregation_has_noise_of_its_own(tmp_path: Path) -> None:
    plan = Plan(1.0, clip_norm=1.0)
    first, second = (new_weights(tmp_path, plan, [[0.0] * SIZE])["w"] for _ in range(2))
    assert (first != second).all()


def test_fedavg_alone_has_no_noise(tmp_path: Path) -> None:
    updates = [(1, {"w": np.ones(SIZE), "n": np.array(0)})]
    assert (read_tensors(aggregate(tmp_path, FedAvg(), WEIGHTS, updates)[0])["w"] == 1.0).all()
