"""Quantisation: headroom, error bounds, exact integers, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.errors import BadTensors
from catchment.secagg.quantise import LARGEST, Quantiser, signed

clips = st.floats(1e-6, 1e6)
parties = st.integers(1, 5000)


def encoded(quantiser: Quantiser, values: np.ndarray, weight: float = 1.0) -> tuple[np.ndarray, int]:
    out = np.empty(values.size, np.uint32)
    return out, quantiser.encode(values, out, weight)


@given(clips, parties)
def test_the_sum_of_all_extremes_does_not_wrap(clip: float, number: int) -> None:
    quantiser = Quantiser(clip, number)
    words, clipped = encoded(quantiser, np.array([clip, -clip, np.finfo(np.float64).max]))
    each = signed(words)
    assert each.tolist() == [quantiser.bound, -quantiser.bound, quantiser.bound]
    assert number * quantiser.bound <= LARGEST
    assert clipped == 1
    total = (words.astype(np.uint64) * number).astype(np.uint32)
    assert signed(total).tolist() == (each * number).tolist()


@given(clips, parties, st.data())
def test_the_mean_is_off_by_half_a_step_at_most(clip: float, number: int, data: st.DataObject) -> None:
    quantiser = Quantiser(clip, number)
    count = data.draw(st.integers(1, min(number, 20)))
    values = [
        np.array([data.draw(st.floats(-clip, clip)) for _ in range(3)], np.float64) for _ in range(count)
    ]
    total = np.zeros(3, np.uint32)
    for each in values:
        total += encoded(quantiser, each)[0]
    error = np.abs(quantiser.decode(total) - np.sum(values, axis=0)).max() / count
    assert error <= 0.5 / quantiser.scale * (1 + 1e-9) + 1e-15 * clip * count


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=50), st.floats(0, 1))
def test_a_weight_is_applied_before_rounding(values: list[float], weight: float) -> None:
    quantiser = Quantiser(8.0, 10)
    words, _ = encoded(quantiser, np.array(values), weight)
    expected = [round(value * (weight * quantiser.scale)) for value in values]
    assert signed(words).tolist() == expected


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_dtype_is_read_and_long_vectors_are_cut_into_blocks(dtype: type) -> None:
    values = np.linspace(-1, 1, 100_003).astype(dtype)
    quantiser = Quantiser(2.0, 3)
    words, clipped = encoded(quantiser, values)
    assert clipped == 0
    assert np.array_equal(signed(words), np.rint(values.astype(np.float64) * quantiser.scale))


def test_clipped_values_are_counted() -> None:
    values = np.concatenate([np.full(40_000, 3.0), np.full(40_000, 0.5), np.full(7, -2.5)])
    words, clipped = encoded(Quantiser(2.0, 4), values)
    assert clipped == 40_007
    assert np.abs(Quantiser(2.0, 4).decode(words)).max() <= 2.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 50_000, 99_999])
def test_what_is_not_finite_is_refused_wherever_it_stands(bad: float, place: int) -> None:
    values = np.zeros(100_000, np.float32)
    values[place] = bad
    with pytest.raises(BadTensors, match="NaN or infinite"):
        encoded(Quantiser(8.0, 10), values)


def test_no_value_at_all_is_no_problem() -> None:
    assert encoded(Quantiser(8.0, 10), np.empty(0, np.float32))[1] == 0


@given(parties, st.data())
def test_integers_are_exact(number: int, data: st.DataObject) -> None:
    quantiser = Quantiser(1.0, number)
    bound = quantiser.bound
    values = np.array(data.draw(st.lists(st.integers(-bound, bound), min_size=1, max_size=5)), np.int64)
    words = np.empty(values.size, np.uint32)
    quantiser.encode_integers(values, words)
    assert signed((words.astype(np.uint64) * number).astype(np.uint32)).tolist() == (values * number).tolist()


@pytest.mark.parametrize("beyond", [1, -1])
def test_integers_that_could_wrap_are_refused(beyond: int) -> None:
    quantiser = Quantiser(1.0, 3)
    with pytest.raises(BadTensors, match="do not fit"):
        quantiser.encode_integers(np.array([beyond * (quantiser.bound + 1)]), np.empty(1, np.uint32))


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, math.inf, 1e-308])
def test_a_clip_without_sense_is_refused(clip: float) -> None:
    with pytest.raises(ValueError, match="clip"):
        Quantiser(clip, 1)


@pytest.mark.parametrize("count", [0, -1, 2**31])
def test_a_number_of_parties_without_sense_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="parties"):
        Quantiser(1.0, count)


@pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
def test_a_weight_above_one_would_break_the_headroom_and_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        encoded(Quantiser(1.0, 2), np.zeros(1), weight)


@given(parties)
def test_counts_of_all_parties_fit_one_unsigned_word(number: int) -> None:
    assert Quantiser(1.0, number).largest_count * number <= 2**32 - 1
