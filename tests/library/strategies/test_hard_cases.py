"""What every strategy must hold: order, all or nothing, every dtype, few updates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

from catchment.errors import BadTensors
from catchment.strategies import robust, sums
from catchment.strategies.base import LinearStrategy, Strategy
from catchment.strategies.krum import MultiKrum
from catchment.strategies.plan import STRATEGIES
from catchment.strategies.scaffold import Scaffold
from tests.strategy_rounds import Arrays, aggregate

ALL = sorted(STRATEGIES)
LINEAR = [name for name in ALL if issubclass(STRATEGIES[name], LinearStrategy)]
ROBUST = [name for name in ALL if name not in LINEAR]
MIXED = [(7, 1e-8), (11, 1e8), (1, -1e8), (1000, 3.3333333), (3, -1e-3), (999_999, 1e-12)]


def make(name: str) -> Strategy:
    return STRATEGIES[name]()


def sent(strategy: Strategy, tensors: Arrays, steps: int = 3) -> Arrays:
    """An update with the vectors that the strategy's clients send besides."""
    if strategy.name in ("scaffold", "feddc"):
        floats = {name: array for name, array in tensors.items() if array.dtype.kind == "f"}
        return {**tensors, **{f"@control/{name}": array * 2 for name, array in floats.items()}}
    if strategy.name == "fednova":
        return {**tensors, "@num_steps": np.array([steps], np.float64)}
    return tensors


def state_bytes(state: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in state.items()}


# Order and batches


@pytest.mark.parametrize("name", LINEAR)
@given(batch=st.integers(1, 7), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_batches_change_no_bit(tmp_path: Path, name: str, batch: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    strategy = make(name)
    weights = {"w": random.normal(size=50), "n": np.array(0)}
    updates = [
        (n, sent(strategy, {"w": random.normal(size=50) * scale, "n": np.array(n)}, steps=n % 7 + 1))
        for n, scale in MIXED
    ]
    whole, outcome = aggregate(tmp_path, strategy, weights, updates, batch=len(updates))
    wanted = whole.read_bytes()
    parts, again = aggregate(tmp_path, strategy, weights, updates, batch=batch)
    assert parts.read_bytes() == wanted
    assert state_bytes(again.state) == state_bytes(outcome.state)


@pytest.mark.parametrize("name", ALL)
def test_blocks_change_no_bit(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    strategy = make(name)
    weights = {part: random.normal(size=(7, 11)).astype(np.float32) for part in "ab"}
    updates = [
        (n, sent(strategy, {part: random.normal(size=(7, 11)).astype(np.float32) for part in "ab"}))
        for n in (3, 5, 9, 2, 8)
    ]
    whole, outcome = aggregate(tmp_path, strategy, weights, updates)
    wanted = load_file(whole)
    monkeypatch.setattr(sums, "BLOCK_ELEMENTS", 8)
    monkeypatch.setattr(robust, "BLOCK_ELEMENTS", 8)
    parts, again = aggregate(tmp_path, strategy, weights, updates)
    for part, array in load_file(parts).items():
        # Lengths are summed up in blocks, so rules that use them may differ in the last bit.
        np.testing.assert_allclose(array, wanted[part], rtol=1e-6)
    if name not in ("geometric_median", "norm_clipping"):
        assert parts.read_bytes() == whole.read_bytes()
        assert state_bytes(again.state) == state_bytes(outcome.state)


@pytest.mark.parametrize("name", ROBUST)
def test_the_blocks_of_a_large_cohort_stay_small(name: str) -> None:
    for count in (1, 10, 1000, 10**7):
        assert robust.block_elements(count) * count <= max(robust.MAX_VALUES, count)


# All or nothing


HUGE = {"w": np.array([3e38, 1.0], np.float32)}


@pytest.mark.parametrize("name", ALL)
def test_a_result_that_is_no_number_leaves_no_file(tmp_path: Path, name: str) -> None:
    strategy = make(name)
    updates = [(1, sent(strategy, {"w": np.array([3e38, 1.0], np.float32) / 2})) for _ in range(5)]
    with pytest.raises(BadTensors):
        aggregate(tmp_path, strategy, HUGE, updates, learning_rate=1e39)
    assert [path.name for path in tmp_path.iterdir() if "new" in path.name] == []


@pytest.mark.parametrize("name", ALL)
def test_no_updates_make_no_weights(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadTensors):
        aggregate(tmp_path, make(name), {"w": np.zeros(3)}, [])
    assert not (tmp_path / "new.safetensors").exists()


def test_a_state_that_is_no_number_is_refused(tmp_path: Path) -> None:
    update = {"w": np.ones(2, np.float32), "@control/w": np.full(2, 3e38, np.float32)}
    weights, updates = {"w": np.ones(2, np.float32)}, [(1, update)] * 2
    _, outcome = aggregate(tmp_path, Scaffold(), weights, updates)
    with pytest.raises(BadTensors, match="@control/w"):
        aggregate(tmp_path, Scaffold(), weights, updates, state=outcome.state)


# Every kind of tensor


@pytest.mark.parametrize("name", ALL)
def test_scalars_empty_tensors_counters_and_masks(tmp_path: Path, name: str) -> None:
    strategy = make(name)
    weights = {
        "scalar": np.array(1.0, np.float32),
        "empty": np.zeros((0, 3), np.float64),
        "one": np.ones((1, 1)),
        "count": np.array(3, np.int64),
        "none": np.zeros((2, 0), np.int32),
        "flag": np.array(False),
    }
    update = {key: np.ones_like(array) for key, array in weights.items()}
    path, outcome = aggregate(tmp_path, strategy, weights, [(2, sent(strategy, update))] * 5)
    new = load_file(path)
    assert {key: (array.shape, array.dtype) for key, array in new.items()} == {
        key: (array.shape, array.dtype) for key, array in weights.items()
    }
    assert (new["count"], new["flag"]) == (1, True)
    # The state is what the next round begins with, so it holds the empty tensors too.
    again, _ = aggregate(
        tmp_path, strategy, new, [(2, sent(strategy, update))] * 5, state=outcome.state or None
    )
    assert load_file(again)["one"].shape == (1, 1)


@pytest.mark.parametrize("name", ALL)
def test_counters_near_two_to_the_53_lose_nothing(tmp_path: Path, name: str) -> None:
    strategy, near = make(name), 2**53 + 1
    weights = {"w": np.zeros(1), "n": np.array([0, 0], np.int64)}
    update = {"w": np.ones(1), "n": np.array([near, -near], np.int64)}
    new = load_file(aggregate(tmp_path, strategy, weights, [(1, sent(strategy, update))] * 5)[0])
    np.testing.assert_array_equal(new["n"], [near, -near])


@pytest.mark.parametrize("name", ROBUST)
def test_one_client_alone_decides_no_counter(tmp_path: Path, name: str) -> None:
    strategy = make(name)
    weights = {"w": np.zeros(4), "n": np.array(0), "m": np.array([False])}
    honest = {"w": np.ones(4), "n": np.array(5), "m": np.array([False])}
    bad = {"w": np.ones(4) * 1.001, "n": np.array(2**62), "m": np.array([True])}
    updates = [(1, bad)] + [(1, {**honest, "w": honest["w"] * (1 + k / 1e4)}) for k in range(4)]
    new = load_file(aggregate(tmp_path, strategy, weights, updates)[0])
    assert (new["n"], new["m"][0]) == (5, False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ALL)
def test_half_floats_take_float32_differences_and_round_once(
    tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    strategy = make(name)
    start = tmp_path / "half.safetensors"
    save_torch({"w": torch.tensor([1.0, -2.0, 0.5], dtype=dtype)}, str(start))
    update = {"w": np.full(3, 2**-12, np.float32)}
    path, outcome = aggregate(tmp_path, strategy, start, [(3, sent(strategy, update))] * 5)
    new = load_torch(str(path))["w"]
    assert new.dtype == dtype
    assert torch.isfinite(new).all()
    assert {array.dtype for array in outcome.state.values()} <= {np.dtype(np.float32), np.dtype(np.float64)}
    if name in ("fedavg", "median", "trimmed_mean", "krum", "multi_krum", "norm_clipping"):
        exact = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 2**-12
        assert torch.equal(new, exact.to(dtype))


@pytest.mark.parametrize("name", ALL)
def test_tensors_that_are_not_shared_keep_every_bit_wherever_they_stand(tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(1)
    strategy = STRATEGIES[name](shared=["*.lora"], local=["*.bn"])
    weights = {
        f"{place}.{kind}": random.normal(size=(3, 2)).astype(np.float32)
        for place in "abc"
        for kind in ("bn", "lora", "base")
    } | {"z.num": np.array(7), "y.bn": np.zeros(0)}
    shared = [key for key in weights if key.endswith(".lora")]
    updates = [
        (n, sent(strategy, {key: random.normal(size=(3, 2)).astype(np.float32) for key in shared}))
        for n in (1, 2, 3, 4, 5)
    ]
    path, outcome = aggregate(tmp_path, strategy, weights, updates)
    new = load_file(path)
    for key, array in weights.items():
        assert np.array_equal(new[key], array) == (key not in shared), key
    tensors = {key.partition("/")[2] for key in outcome.state if "/" in key}
    assert tensors <= set(shared)


# Lengths that no square can show


def test_krum_is_not_misled_by_lengths_whose_squares_overflow(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    updates: list[Any] = [(1, {"w": 1 + random.normal(size=8) * 1e-3}) for _ in range(5)]
    updates += [(1, {"w": np.full(8, 1e200)}), (1, {"w": np.full(8, -1e200)})]
    path, outcome = aggregate(tmp_path, MultiKrum(malicious=2), {"w": np.zeros(8)}, updates)
    assert outcome.metrics["rejected"] == ["site-05", "site-06"]
    np.testing.assert_allclose(load_file(path)["w"], 1, atol=0.01)


def test_krum_keeps_small_distances_of_long_vectors_apart(tmp_path: Path) -> None:
    spread = [0.0, 1e-6, 2e-6, 3e-6, 9e-6]
    updates = [(1, {"w": np.full(4, 1e8 + offset)}) for offset in spread]
    _, outcome = aggregate(tmp_path, MultiKrum(malicious=1), {"w": np.zeros(4)}, updates)
    assert outcome.metrics["rejected"] == ["site-04"]


def test_too_few_updates_for_krum_say_how_many_are_needed(tmp_path: Path) -> None:
    updates = [(1, {"w": np.ones(1) * k}) for k in range(4)]
    with pytest.raises(BadTensors, match="4 updates took part, 5 are needed"):
        aggregate(tmp_path, MultiKrum(malicious=1), {"w": np.zeros(1)}, updates)


def test_a_round_of_zero_updates_moves_nothing_under_every_rule(tmp_path: Path) -> None:
    weights = {"w": np.random.default_rng(1).normal(size=100).astype(np.float32)}
    for name in ALL:
        strategy = make(name)
        still = (3, sent(strategy, {"w": np.zeros(100, np.float32)}))
        new = load_file(aggregate(tmp_path, strategy, weights, [still] * 5)[0])
        np.testing.assert_array_equal(new["w"], weights["w"], err_msg=name)
