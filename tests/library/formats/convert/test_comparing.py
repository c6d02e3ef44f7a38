"""Errors are told as they are: near is near, NaN is not a number, and what is lossy is measured otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from catchment.formats.convert.comparing import LOSSY_ARGMAX, OutputError, Tolerance, compare_output
from catchment.formats.convert.samples import LARGE, Kind

RANDOM = Kind("random-0", 2)
EXACT = Tolerance()
FLOATS = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=1, max_dims=3, max_side=5),
    elements=st.floats(-1e6, 1e6, width=32),
)


def compared(source: Any, result: Any, tolerance: Tolerance = EXACT, kind: Kind = RANDOM) -> OutputError:
    return compare_output("y", [(kind, {"y": np.asarray(source)}, {"y": np.asarray(result)})], tolerance)


@given(FLOATS)
def test_what_is_equal_has_no_error(values: np.ndarray) -> None:
    found = compared(values, values.copy())
    assert (found.max_abs, found.mean_abs, found.share, found.problem) == (0, 0, 0, "")
    assert found.argmax_agreement in (None, 1.0)


@given(FLOATS, st.floats(1e-6, 1e-2), st.floats(1e-7, 1e-3))
def test_the_share_says_whether_the_tolerance_is_held(
    values: np.ndarray, shift: float, tolerance: float
) -> None:
    result = values.astype(np.float64)
    result.flat[0] += shift
    found = compared(values.astype(np.float64), result, Tolerance(tolerance))
    error = float(np.abs(result - values).max())
    assert found.max_abs == pytest.approx(error)
    assert found.mean_abs == pytest.approx(error / values.size)
    allowed = tolerance * (1 + float(np.abs(values.astype(np.float64)).max()))
    assert (error > allowed) == (found.share > 1) == bool(found.problem)


def test_a_large_samples_rounding_errors_are_measured_by_its_scale() -> None:
    source, result = np.float32([[1000.0]]), np.float32([[1000.1]])
    assert compared(source, result, kind=Kind("large", 1, LARGE)).max_abs == pytest.approx(0.001, rel=0.01)
    assert compared(source, result).problem


def test_nan_must_be_where_the_source_has_it() -> None:
    source = np.float32([1, np.nan, 3])
    assert not compared(source, source.copy()).problem
    assert compared(source, np.float32([1, 2, 3])).problem == "NaN where the other side has none"
    assert compared(np.float32([1, 2, 3]), source).problem == "NaN where the other side has none"
    assert compared(np.float32([np.nan]), np.float32([np.nan])).share == 0


def test_infinity_must_have_the_sources_sign() -> None:
    source = np.float32([np.inf, 1])
    assert not compared(source, source.copy()).problem
    for wrong in ([-np.inf, 1], [1e30, 1], [np.inf, np.inf]):
        assert compared(source, np.float32(wrong)).problem == "infinite where the other side is not"


@pytest.mark.parametrize(
    ("source", "result", "words"),
    [
        (
            np.zeros((2, 3), np.float32),
            np.zeros((3, 2), np.float32),
            r"gives the shape [2, 3], the result [3, 2]",
        ),
        (np.zeros(2, np.float32), np.zeros(2, np.float64), "gives float32, the result float64"),
        (np.zeros(2, np.int64), np.zeros(2, np.float32), "gives int64, the result float32"),
        (np.array(["a"]), np.array(["bb"]), "100.00% of the values are others"),
        (np.int64([1, 2, 3, 4]), np.int64([1, 2, 3, 5]), "25.00% of the values are others"),
    ],
)
def test_what_cannot_be_equal_is_said(source: Any, result: Any, words: str) -> None:
    assert words in compared(source, result).problem


def test_texts_of_different_widths_are_compared_by_value() -> None:
    assert not compared(np.array(["a", "b"]), np.array(["a", "b"], "U20")).problem


def test_the_largest_entry_must_be_the_same_but_for_ties() -> None:
    source = np.float32([[0.1, 0.2], [0.5, 0.5]])
    assert compared(source, np.float32([[0.2, 0.1], [0.5, 0.5]])).argmax_agreement == 0.5
    assert compared(source, np.float32([[0.1, 0.2], [0.5, 0.5000001]])).argmax_agreement == 1.0


def test_a_lossy_result_is_measured_by_the_spread_and_the_largest_entries() -> None:
    lossy = Tolerance(lossy=True)
    generator = np.random.default_rng(0)
    source = generator.normal(size=(100, 5)).astype(np.float32)
    assert not compared(source, source + np.float32(0.01), lossy).problem
    shuffled = source[:, ::-1].copy()
    found = compared(source, shuffled, lossy)
    assert found.problem
    assert found.argmax_agreement is not None
    assert found.argmax_agreement < LOSSY_ARGMAX


def test_the_worst_sample_is_named_whichever_comes_first() -> None:
    near, far = np.float32([1.0]), np.float32([2.0])
    pairs = [
        (Kind("random-0", 1), {"y": near}, {"y": near}),
        (Kind("zeros", 1), {"y": near}, {"y": far}),
        (Kind("ones", 1), {"y": near}, {"y": near}),
    ]
    assert compare_output("y", pairs, Tolerance()).worst == "zeros"
