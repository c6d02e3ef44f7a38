"""Updates as vectors: what goes in comes out as a sum, weights and counts included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catchment.errors import BadTensors
from catchment.models.signature import update_signature
from catchment.models.tensors import TensorFile, write_tensors
from catchment.secagg.quantise import Quantiser
from catchment.secagg.vector import HEADER_WORDS, Layout

WEIGHTS = {
    "z.weight": np.zeros((3, 2), np.float32),
    "a.bias": np.zeros((), np.float64),
    "half": np.zeros(4, np.float16),
    "empty": np.zeros((0, 3), np.float32),
    "count": np.array([100], np.int64),
    "mask": np.array([True, False, True]),
    "small": np.array([250], np.uint8),
}


def files(folder: Path, updates: list[dict[str, np.ndarray]]) -> tuple[TensorFile, list[TensorFile]]:
    write_tensors(folder / "weights", WEIGHTS)
    opened = []
    for number, update in enumerate(updates):
        write_tensors(folder / f"update{number}", update)
        opened.append(TensorFile.open(folder / f"update{number}"))
    return TensorFile.open(folder / "weights"), opened


def update_of(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "z.weight": generator.normal(0, 0.1, (3, 2)).astype(np.float32),
        "a.bias": np.array(generator.normal()),
        "half": generator.normal(0, 0.1, 4).astype(np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "count": np.array([100 + seed], np.int64),
        "mask": np.array([True, True, False]),
        "small": np.array([255 - seed], np.uint8),
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(counts=st.lists(st.integers(1, 2000), min_size=1, max_size=6), by_samples=st.booleans())
def test_the_sum_of_vectors_says_what_the_sum_of_updates_says(
    tmp_path: Path, counts: list[int], by_samples: bool
) -> None:
    updates = [update_of(seed) for seed in range(len(counts))]
    weights, opened = files(tmp_path, updates)
    layout = Layout(
        update_signature(weights.signature), Quantiser(8.0, 6), sample_cap=1000, by_samples=by_samples
    )
    total = np.zeros(layout.num_words, np.uint32)
    for update, count in zip(opened, counts, strict=True):
        total += layout.encode(update, weights, count)
    found = layout.decode(total)
    capped = [min(count, 1000) for count in counts]
    assert (found.num_samples, found.num_sites) == (sum(capped), len(counts))
    assert (found.clipped, found.capped) == (0, sum(count > 1000 for count in counts))
    shares = capped if by_samples else [1] * len(counts)
    step = (1000 if by_samples else 1) / layout.quantiser.scale
    for name in ("z.weight", "a.bias", "half", "empty"):
        expected = sum(
            share * update[name].astype(np.float64).reshape(-1)
            for share, update in zip(shares, updates, strict=True)
        )
        assert np.abs(found.floats[name] - expected).max(initial=0) <= len(counts) * step / 2 + 1e-9
    for name in ("count", "mask", "small"):
        differences = [update[name].astype(np.int64) - WEIGHTS[name].astype(np.int64) for update in updates]
        assert found.integers[name].tolist() == np.sum(differences, axis=0).reshape(-1).tolist()


def test_clipped_values_are_counted_over_all_tensors(tmp_path: Path) -> None:
    update = update_of(0)
    update["z.weight"][0, 0], update["half"][1] = 20, -9
    weights, (opened,) = files(tmp_path, [update])
    layout = Layout(update_signature(weights.signature), Quantiser(8.0, 6), sample_cap=10)
    assert layout.decode(layout.encode(opened, weights, 5)).clipped == 2


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("half", np.full(4, np.nan, np.float32), "NaN"),
        ("count", np.array([2**40]), "do not fit a secure sum"),
    ],
)
def test_what_cannot_be_summed_is_refused_by_name(
    tmp_path: Path, name: str, value: np.ndarray, why: str
) -> None:
    weights, (opened,) = files(tmp_path, [{**update_of(0), name: value}])
    layout = Layout(update_signature(weights.signature), Quantiser(8.0, 6), sample_cap=10)
    with pytest.raises(BadTensors, match=f"tensor '{name}'.*{why}"):
        layout.encode(opened, weights, 5)


def test_no_samples_are_refused(tmp_path: Path) -> None:
    weights, (opened,) = files(tmp_path, [update_of(0)])
    layout = Layout(update_signature(weights.signature), Quantiser(8.0, 6), sample_cap=10)
    with pytest.raises(BadTensors, match="sample_num is 0"):
        layout.encode(opened, weights, 0)


def test_a_cap_whose_sum_would_not_fit_is_refused(tmp_path: Path) -> None:
    weights, _ = files(tmp_path, [])
    Layout(weights.signature, Quantiser(1.0, 2), sample_cap=2**31 - 1)
    with pytest.raises(BadTensors, match="sample_cap"):
        Layout(weights.signature, Quantiser(1.0, 3), sample_cap=2**31 - 1)


def test_a_sum_of_another_length_is_refused(tmp_path: Path) -> None:
    weights, _ = files(tmp_path, [])
    layout = Layout(weights.signature, Quantiser(1.0, 2), sample_cap=5)
    with pytest.raises(BadTensors, match="words"):
        layout.decode(np.zeros(layout.num_words - 1, np.uint32))
    assert layout.num_words == HEADER_WORDS + 6 + 1 + 4 + 1 + 3 + 1
