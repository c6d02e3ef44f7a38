"""What a delivered update must be to take part, and the means of what sites report."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.errors import BadTensors, NotFound
from catchment.jobs.spec import HyperParameters
from catchment.models.tensors import TensorFile, file_digest, write_tensors
from catchment.rounds.admission import MAX_SAMPLES, Expected, admit_update, num_samples_of, weighted_means
from catchment.rounds.collect import is_closed
from catchment.rounds.evaluation import evaluation_due, save_due
from catchment.store.blobs import FolderBlobs
from catchment.strategies.vectors import sent_signature

WEIGHTS = {"w": np.zeros((2, 2), np.float32), "h": np.zeros(2, np.float16), "n": np.array(0, np.int64)}
RIGHT = {"w": np.ones((2, 2), np.float32), "h": np.ones(2, np.float32), "n": np.array(3, np.int64)}


@pytest.mark.parametrize(
    ("metrics", "samples"),
    [({}, 1), ({"sample_num": 7}, 7), ({"sample_num": 7.0}, 7), ({"sample_num": MAX_SAMPLES}, MAX_SAMPLES)],
)
def test_sample_numbers_that_count(metrics: dict[str, Any], samples: int) -> None:
    assert num_samples_of(metrics) == samples
    assert isinstance(num_samples_of(metrics), int)


@pytest.mark.parametrize(
    "given_number",
    [0, -1, 0.5, 2.5, MAX_SAMPLES + 1, 2**63, 1e300, math.nan, math.inf, True, "7", None, [7], "x" * 10**6],
)
def test_sample_numbers_that_do_not(given_number: Any) -> None:
    with pytest.raises(BadTensors, match="sample_num") as raised:
        num_samples_of({"sample_num": given_number})
    assert len(str(raised.value)) < 200


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """As much of a store as admission looks at."""
    return SimpleNamespace(blobs=FolderBlobs(tmp_path / "blobs"))


@pytest.fixture
def expected(tmp_path: Path) -> Expected:
    write_tensors(tmp_path / "weights.safetensors", WEIGHTS)
    with TensorFile.open(tmp_path / "weights.safetensors") as file:
        return Expected(sent_signature(file.signature))


def delivered(store: Any, tmp_path: Path, data: Any, metrics: dict[str, Any] | None = None) -> Any:
    path = tmp_path / "update"
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        write_tensors(path, data)
    digest = file_digest(path)
    store.blobs.put_file(path, digest)
    return SimpleNamespace(update=digest, metrics=metrics)


def test_a_right_update_is_admitted_with_its_samples(store: Any, expected: Any, tmp_path: Path) -> None:
    work = delivered(store, tmp_path, RIGHT, {"sample_num": 12})
    assert admit_update(store, work, expected) == 12
    assert admit_update(store, SimpleNamespace(update=work.update, metrics=None), expected) == 1


WRONG: dict[str, tuple[Any, str]] = {
    "nan": ({**RIGHT, "w": np.full((2, 2), np.nan, np.float32)}, "'w' holds NaN"),
    "infinite": ({**RIGHT, "h": np.array([0, np.inf], np.float32)}, "'h' holds NaN or infinite"),
    "missing": ({"w": RIGHT["w"], "h": RIGHT["h"]}, "missing: n"),
    "extra": ({**RIGHT, "extra": np.zeros(1)}, "unexpected: extra"),
    "shape": ({**RIGHT, "w": np.ones((2, 3), np.float32)}, r"wrong shape: w \[2, 3\]"),
    "scalar": ({**RIGHT, "n": np.array([3])}, "wrong shape: n"),
    "dtype": ({**RIGHT, "w": np.ones((2, 2), np.float64)}, "wrong dtype: w F64 instead of F32"),
    "half": ({**RIGHT, "h": np.ones(2, np.float16)}, "wrong dtype: h F16 instead of F32"),
    "nothing": ({}, "missing"),
    "text": (b"this is no tensor file at all", "not a safetensors file"),
    "empty": (b"", "not a safetensors file"),
    "pickle": (b"\x80\x04\x95" + b"x" * 100, "not a safetensors file"),
}


@pytest.mark.parametrize(("data", "words"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_update_is_refused_with_the_tensors_name(
    store: Any, expected: Any, tmp_path: Path, data: Any, words: str
) -> None:
    with pytest.raises(BadTensors, match=words):
        admit_update(store, delivered(store, tmp_path, data), expected)


def test_a_work_without_weights_or_without_their_bytes(store: Any, expected: Any) -> None:
    with pytest.raises(BadTensors, match="committed no weights"):
        admit_update(store, SimpleNamespace(update=None, metrics={}), expected)
    with pytest.raises(NotFound):
        admit_update(store, SimpleNamespace(update="sha256:" + "0" * 64, metrics={}), expected)


# Means


def test_means_are_weighted_by_samples_over_those_who_report() -> None:
    reports = [
        {"sample_num": 1, "accuracy": 0.5, "loss": 1.0},
        {"sample_num": 3, "accuracy": 0.9, "loss": math.nan, "words": "x", "flag": True, "list": [1]},
        {"accuracy": 0.0, "own": 4},
    ]
    means = weighted_means(reports)
    assert means == {"accuracy": pytest.approx(3.2 / 5), "loss": 1.0, "own": 4.0, "sample_num": 5}


def test_no_reports_have_no_means() -> None:
    assert weighted_means([]) == {"sample_num": 0}


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(st.integers(1, MAX_SAMPLES), FINITE), min_size=1, max_size=5))
def test_means_are_always_numbers_and_lie_between(reports: list[tuple[int, float]]) -> None:
    means = weighted_means([{"sample_num": n, "x": value} for n, value in reports])
    assert all(math.isfinite(value) for value in means.values())
    if "x" in means and max(abs(value) for _, value in reports) < 1e290:
        values = [value for _, value in reports]
        slack = 1e-9 * max(1e-300, *(abs(value) for value in values))
        assert min(values) - slack <= means["x"] <= max(values) + slack


# When a round closes, and what follows it

CLOSING = [
    # client_num, threshold, selected, admitted, pending, over -> closed
    (2, 2, 2, 0, 2, False, False),
    (2, 2, 2, 1, 1, False, False),
    (2, 2, 2, 2, 0, False, True),
    (2, 2, 2, 1, 0, False, True),
    (2, 1, 2, 1, 1, False, False),
    (2, 1, 2, 1, 1, True, True),
    (2, 1, 2, 0, 1, False, False),
    (3, 3, 3, 1, 1, False, True),
    (2, 1, 3, 2, 1, False, True),
    (2, 1, 3, 1, 2, False, False),
    (2, 2, 3, 0, 1, False, True),
    (2, 1, 1, 0, 1, False, False),
]


@pytest.mark.parametrize(
    ("wanted", "threshold", "selected", "admitted", "pending", "over", "closed"), CLOSING
)
def test_when_a_round_closes(
    wanted: int, threshold: int, selected: int, admitted: int, pending: int, over: bool, closed: bool
) -> None:
    hyper = HyperParameters(client_num=wanted, threshold_client_num=threshold)
    assert is_closed(hyper, selected, admitted, pending, over=over) is closed


def test_every_save_is_preceded_by_an_evaluation() -> None:
    hyper = HyperParameters(max_round_num=11, evaluate_interval=4, save_interval=3)
    assert [n for n in range(1, 12) if evaluation_due(hyper, n)] == [3, 4, 6, 8, 9, 11]
    assert [n for n in range(1, 12) if save_due(hyper, n)] == [3, 6, 9, 11]
