"""Noised vectors: bounded, exact to the step, with all the noise that was promised, and room for it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catchment.errors import BadTensors
from catchment.models.signature import update_signature
from catchment.models.tensors import TensorFile, write_tensors
from catchment.privacy.noise import NoiseSource
from catchment.secagg.noised import MIN_SHARE_STD, TAIL, Grid, NoisedLayout
from catchment.secagg.quantise import LARGEST, signed
from catchment.secagg.vector import HEADER_WORDS
from catchment.wire.secagg import SharedNoise


def noise_of(multiplier: float = 1.0, clip_norm: float = 1.0, sharers: int = 3) -> SharedNoise:
    return SharedNoise(clip_norm=clip_norm, noise_multiplier=multiplier, sharers=sharers)


def layout_for(path: Path, noise: SharedNoise, parties: int) -> NoisedLayout:
    with TensorFile.open(path) as file:
        return NoisedLayout(update_signature(file.signature), noise, parties)


def encoded(folder: Path, values: dict[str, Any], layout: NoisedLayout | None = None, **more: Any) -> Any:
    path = folder / "update"
    write_tensors(path, values)
    layout = layout or layout_for(path, **more)
    with TensorFile.open(path) as file:
        return layout, layout.encode(file, file, 10)


class Recorded(NoiseSource):
    """A source that remembers its discrete draws."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[np.ndarray] = []

    def discrete_gaussian(self, size: int, std: float) -> np.ndarray:
        self.drawn.append(super().discrete_gaussian(size, std))
        return self.drawn[-1]


@given(
    multiplier=st.floats(0.01, 100),
    clip_norm=st.floats(1e-6, 1e6),
    sharers=st.integers(1, 1000),
    more=st.integers(0, 1000),
)
def test_there_is_room_for_all_updates_and_the_tail_of_all_noise(
    multiplier: float, clip_norm: float, sharers: int, more: int
) -> None:
    grid = Grid(noise_of(multiplier, clip_norm, sharers), sharers + more)
    reached = grid.parties * grid.reach + TAIL * grid.share_std * math.sqrt(grid.parties)
    assert reached <= LARGEST * (1 + 1e-9)
    assert reached >= LARGEST * (1 - 1e-6) - 2 * grid.parties * (1 + TAIL * multiplier)  # and no more room
    assert grid.share_std * math.sqrt(sharers) == pytest.approx(multiplier * grid.reach)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=200),
    clip_norm=st.floats(1e-3, 1e3),
    parties=st.integers(2, 1000),
)
def test_the_rounded_update_is_never_longer_than_the_clipping_norm(
    tmp_path: Path, values: list[float], clip_norm: float, parties: int
) -> None:
    update = {"w": np.array(values, np.float32)}
    noise = noise_of(0.0, clip_norm)
    layout, vector = encoded(tmp_path, update, noise=noise, parties=parties)
    steps = [int(step) for step in signed(vector[HEADER_WORDS:])]
    assert sum(step * step for step in steps) <= layout.grid.reach**2
    assert layout.grid.reach / layout.quantiser.scale <= clip_norm


def test_a_short_update_is_only_rounded(tmp_path: Path) -> None:
    update = np.random.default_rng(3).normal(0, 0.01, 1000).astype(np.float32)
    layout, vector = encoded(tmp_path, {"w": update}, noise=noise_of(0.0), parties=5)
    found = layout.decode(vector).floats["w"]
    assert np.abs(found - update).max() <= 0.5 / layout.quantiser.scale


def test_the_sum_is_that_of_the_rounded_updates_and_their_noise_to_the_step(tmp_path: Path) -> None:
    parties, size = 4, 70_000
    generator = np.random.default_rng(1)
    total, expected = None, np.zeros(size, np.int64)
    for _ in range(parties):
        update = generator.normal(0, 1, size)
        path = tmp_path / "update"
        write_tensors(path, {"w": update, "steps": np.array(7)})
        layout = layout_for(path, noise_of(2.0, 3.0), parties)
        source = Recorded()
        with TensorFile.open(path) as file:
            vector = layout.encode(file, file, 10, source)
        factor = layout._factor(TensorFile.open(path))
        expected += np.rint(update * factor).astype(np.int64) + np.concatenate(source.drawn)
        total = vector if total is None else total + vector
    assert total is not None
    start, stop = layout.places["w"]
    np.testing.assert_array_equal(signed(total[start:stop]), expected)
    found = layout.decode(total)
    np.testing.assert_array_equal(found.floats["w"], expected / layout.quantiser.scale)
    assert (found.num_sites, found.num_samples, found.clipped, found.capped) == (4, 4, 0, 0)
    assert found.integers["steps"] == 0


@pytest.mark.parametrize("alive", [3, 5])
def test_any_sum_of_enough_sites_has_all_the_noise(tmp_path: Path, alive: int) -> None:
    size, sharers = 200_000, 3
    write_tensors(tmp_path / "update", {"w": np.zeros(size, np.float32)})
    layout = layout_for(tmp_path / "update", noise_of(1.5, 0.5, sharers), 5)
    with TensorFile.open(tmp_path / "update") as file:
        total = sum(layout.encode(file, file, 10) for _ in range(alive))
    found = layout.decode(np.asarray(total, np.uint32)).floats["w"]
    # The std of so many draws has a relative error of 0.16 %; six of those.
    assert found.std() == pytest.approx(1.5 * 0.5 * math.sqrt(alive / sharers), rel=0.01)
    assert abs(found.mean()) < 6 * found.std() / math.sqrt(size)


def test_no_sample_number_or_count_of_clipped_values_is_in_the_vector(tmp_path: Path) -> None:
    _, vector = encoded(tmp_path, {"w": np.full(4, 1e9)}, noise=noise_of(), parties=3)
    assert vector[:HEADER_WORDS].tolist() == [1, 1, 0, 0]


def test_two_encodings_of_one_update_differ(tmp_path: Path) -> None:
    layout, first = encoded(tmp_path, {"w": np.zeros(100)}, noise=noise_of(), parties=3)
    assert not np.array_equal(first, encoded(tmp_path, {"w": np.zeros(100)}, layout)[1])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(BadTensors, match="w"):
        encoded(tmp_path, {"w": np.array([1.0, value])}, noise=noise_of(), parties=3)


def test_a_grid_too_coarse_for_the_noise_or_the_model_says_so_with_numbers() -> None:
    assert not Grid(noise_of(0.5), 100).problem(10**8)
    assert "in 32 bits clip_norm is 17 steps" in Grid(noise_of(1e7, sharers=60), 60).problem(100)
    tiny = Grid(noise_of(1e-9), 100)
    assert 0 < tiny.share_std < MIN_SHARE_STD
    assert "discrete noise needs 8" in tiny.problem()
    assert not Grid(noise_of(0.0), 100).problem()
