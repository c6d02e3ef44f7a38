"""FedAvg against an independent reference, in every dtype."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
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
from catchment.models.tensors import TensorFile, TensorWriter, write_tensors
from catchment.strategies import sums, writing
from catchment.strategies.fedavg import FedAvg
from catchment.strategies.sums import ClientUpdate

Arrays = dict[str, np.ndarray]
SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def aggregate(
    folder: Path, weights: Arrays | Path, updates: Sequence[tuple[int, Arrays]], learning_rate: float = 1.0
) -> Path:
    """The file of the new weights."""
    start = weights
    if not isinstance(start, Path):
        start = folder / "weights.safetensors"
        write_tensors(start, weights)  # type: ignore[arg-type]
    strategy, target = FedAvg(learning_rate), folder / "new.safetensors"
    with contextlib.ExitStack() as files:
        current = files.enter_context(TensorFile.open(start))
        sums = strategy.begin(current)
        for number, (num_samples, tensors) in enumerate(updates):
            path = folder / f"update-{number}.safetensors"
            write_tensors(path, tensors)
            update = files.enter_context(TensorFile.open(path))
            strategy.accumulate(sums, [ClientUpdate(f"site-{number}", num_samples, update)])
        with TensorWriter.create(target, current.signature) as writer:
            strategy.finish(sums, current, writer)
    return target


def reference(
    weights: np.ndarray, updates: Sequence[tuple[int, np.ndarray]], learning_rate: float
) -> np.ndarray:
    """`w + lr * sum(n_k D_k) / sum(n_k)` by exactly rounded sums of Python floats."""
    total = sum(num_samples for num_samples, _ in updates)
    means = [
        math.fsum(num_samples * float(update.reshape(-1)[index]) for num_samples, update in updates) / total
        for index in range(weights.size)
    ]
    return (weights.reshape(-1) + learning_rate * np.array(means, np.float64)).reshape(weights.shape)


VALUES = st.floats(-1e3, 1e3, width=64)
SAMPLES = st.integers(1, 10_000)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[np.ndarray, list[tuple[int, np.ndarray]], float]:
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 3), (0,), (2, 0, 3), (1, 1, 2)]))
    size = math.prod(shape)

    def array() -> np.ndarray:
        return np.array(draw(st.lists(VALUES, min_size=size, max_size=size)), np.float64).reshape(shape)

    updates = [(draw(SAMPLES), array()) for _ in range(draw(st.integers(1, 5)))]
    return array(), updates, draw(st.floats(0.01, 3.0))


@given(rounds())
@SETTINGS
def test_float64_agrees_with_the_reference(tmp_path: Path, case: Any) -> None:
    weights, updates, learning_rate = case
    new = load_file(
        aggregate(tmp_path, {"w": weights}, [(n, {"w": update}) for n, update in updates], learning_rate)
    )["w"]
    wanted = reference(weights, updates, learning_rate)
    assert (new.shape, new.dtype) == (weights.shape, np.float64)
    scale = max(1.0, *(float(np.abs(array).max(initial=0)) for array in (weights, *(u for _, u in updates))))
    np.testing.assert_allclose(new, wanted, rtol=1e-12, atol=1e-12 * scale)


@given(rounds())
@SETTINGS
def test_float32_is_the_reference_rounded_once(tmp_path: Path, case: Any) -> None:
    weights, updates, learning_rate = case
    weights, updates = weights.astype(np.float32), [(n, update.astype(np.float32)) for n, update in updates]
    new = load_file(
        aggregate(tmp_path, {"w": weights}, [(n, {"w": update}) for n, update in updates], learning_rate)
    )["w"]
    wanted = reference(weights.astype(np.float64), updates, learning_rate)
    scale = max(1.0, float(np.abs(wanted).max(initial=0)))
    np.testing.assert_allclose(new, wanted, rtol=1.2e-7, atol=1e-12 * scale * 1e3)
    assert new.dtype == np.float32


@pytest.mark.parametrize(("dtype", "step"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
@given(
    weights=st.lists(st.floats(-100, 100, width=16), min_size=1, max_size=6),
    shift=st.floats(-1, 1, width=32),
    n=SAMPLES,
)
@SETTINGS
def test_half_floats_take_float32_differences_and_round_once(
    tmp_path: Path, dtype: torch.dtype, step: float, weights: list[float], shift: float, n: int
) -> None:
    start = tmp_path / "half.safetensors"
    save_torch({"w": torch.tensor(weights, dtype=dtype)}, str(start))
    exact = torch.tensor(weights, dtype=dtype).to(torch.float64)
    update = np.full(len(weights), shift, np.float32)
    path = aggregate(tmp_path, start, [(n, {"w": update}), (3 * n, {"w": update * 0})])
    new = load_torch(str(path))["w"]
    assert new.dtype == dtype
    wanted = exact + float(np.float32(shift)) / 4
    assert torch.all((new.to(torch.float64) - wanted).abs() <= wanted.abs() * step + 1e-7)


def test_equal_updates_give_exactly_that_update(tmp_path: Path) -> None:
    update = {"w": np.array([0.5, -0.25, 3.0], np.float32)}
    weights = {"w": np.array([1.0, 2.0, 4.0], np.float32)}
    new = load_file(aggregate(tmp_path, weights, [(n, update) for n in (1, 10, 1000)]))["w"]
    np.testing.assert_array_equal(new, weights["w"] + update["w"])


def test_no_change_at_all_sites_changes_no_bit(tmp_path: Path) -> None:
    weights = {"w": np.random.default_rng(1).normal(size=100).astype(np.float32)}
    zero = {"w": np.zeros(100, np.float32)}
    new = load_file(aggregate(tmp_path, weights, [(3, zero), (7, zero)], learning_rate=0.3))["w"]
    np.testing.assert_array_equal(new, weights["w"])


def test_samples_are_the_weights(tmp_path: Path) -> None:
    updates = [(1, {"w": np.array([4.0], np.float32)}), (3, {"w": np.array([0.0], np.float32)})]
    weights = {"w": np.array([10.0], np.float32)}
    assert load_file(aggregate(tmp_path, weights, updates))["w"] == [11.0]
    assert load_file(aggregate(tmp_path, weights, updates, learning_rate=0.5))["w"] == [10.5]


def test_the_largest_number_of_samples_loses_nothing(tmp_path: Path) -> None:
    updates = [(2**40, {"w": np.array([1.0])}), (2**40, {"w": np.array([3.0])})]
    assert load_file(aggregate(tmp_path, {"w": np.array([0.0])}, updates))["w"] == [2.0]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16, np.int8, np.uint8, np.uint64])
def test_integers_take_their_largest_value(tmp_path: Path, dtype: Any) -> None:
    top = np.iinfo(dtype).max
    updates = [(n, {"c": np.array([n, top, 0], dtype)}) for n in (5, 9, 2)]
    new = load_file(aggregate(tmp_path, {"c": np.array([1, 1, 1], dtype)}, updates))["c"]
    np.testing.assert_array_equal(new, np.array([9, top, 0], dtype))
    assert new.dtype == dtype


def test_booleans_are_true_where_any_site_says_so(tmp_path: Path) -> None:
    updates = [(1, {"m": np.array([True, False, False])}), (1, {"m": np.array([False, True, False])})]
    new = load_file(aggregate(tmp_path, {"m": np.zeros(3, bool)}, updates))["m"]
    np.testing.assert_array_equal(new, [True, True, False])


def test_scalars_and_empty_tensors_of_every_kind(tmp_path: Path) -> None:
    weights = {
        "scalar": np.array(1.0, np.float32),
        "empty": np.zeros((0, 3), np.float64),
        "count": np.array(3, np.int64),
        "none": np.zeros((2, 0), np.int32),
        "flag": np.array(False),
    }
    update = {name: np.ones_like(array) for name, array in weights.items()}
    new = load_file(aggregate(tmp_path, weights, [(2, update), (1, update)]))
    assert {name: array.shape for name, array in new.items()} == {
        name: array.shape for name, array in weights.items()
    }
    assert (new["scalar"], new["count"], new["flag"]) == (2.0, 1, True)


def test_a_model_of_counters_alone_has_a_mean_too(tmp_path: Path) -> None:
    new = load_file(aggregate(tmp_path, {"c": np.array([1])}, [(1, {"c": np.array([7])})]))
    np.testing.assert_array_equal(new["c"], [7])


def test_tensors_larger_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    weights = {name: random.normal(size=(7, 11)).astype(np.float32) for name in "ab"}
    updates = [(n, {name: random.normal(size=(7, 11)).astype(np.float32) for name in "ab"}) for n in (3, 5)]
    whole = aggregate(tmp_path, weights, updates).read_bytes()
    monkeypatch.setattr(sums, "BLOCK_ELEMENTS", 8)
    monkeypatch.setattr(sums, "WINDOW_ELEMENTS", 16)
    monkeypatch.setattr(writing, "BLOCK_ELEMENTS", 8)
    monkeypatch.setattr(writing, "WINDOW_ELEMENTS", 16)
    assert aggregate(tmp_path, weights, updates).read_bytes() == whole


# What must not become weights


BAD: dict[str, tuple[Arrays, list[tuple[int, Arrays]], float, str]] = {
    "float32 overflow": (
        {"w": np.array([3e38], np.float32)},
        [(1, {"w": np.array([3e38], np.float32)})],
        1.0,
        "F32",
    ),
    "float16 overflow": (
        {"w": np.array([60000], np.float16)},
        [(1, {"w": np.array([60000], np.float32)})],
        1.0,
        "F16",
    ),
    "infinite sum": ({"w": np.array([0.0])}, [(9, {"w": np.array([1e308])})], 1.0, "not finite"),
    "opposite infinities": (
        {"w": np.array([0.0])},
        [(9, {"w": np.array([1e308])}), (9, {"w": np.array([-1e308])})],
        1.0,
        "not finite",
    ),
    "a large step": ({"w": np.array([1.0])}, [(1, {"w": np.array([1e300])})], 1e300, "not finite"),
    "no updates": ({"w": np.array([1.0])}, [], 1.0, "no samples"),
    "nan": ({"w": np.array([1.0])}, [(1, {"w": np.array([np.nan])})], 1.0, "not finite"),
}


@pytest.mark.parametrize(("weights", "updates", "learning_rate", "words"), BAD.values(), ids=list(BAD))
def test_a_result_that_is_no_number_is_refused_and_leaves_no_file(
    tmp_path: Path, weights: Arrays, updates: Any, learning_rate: float, words: str
) -> None:
    with pytest.raises(BadTensors, match=words):
        aggregate(tmp_path, weights, updates, learning_rate)
    assert [path.name for path in tmp_path.iterdir() if "new" in path.name] == []
