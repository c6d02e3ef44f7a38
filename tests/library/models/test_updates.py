"""Checking client updates against the round's weights."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from catchment.errors import BadTensors, TensorMismatch
from catchment.models.tensors import (
    TensorFile,
    TensorInfo,
    check_update,
    update_signature,
    write_tensors,
)

WEIGHTS = {
    "layer.weight": TensorInfo("F32", (2, 3)),
    "layer.bias": TensorInfo("BF16", (3,)),
    "half": TensorInfo("F16", (1,)),
    "double": TensorInfo("F64", ()),
    "steps": TensorInfo("I64", ()),
    "mask": TensorInfo("BOOL", (2,)),
}


def good() -> dict[str, np.ndarray]:
    return {
        "layer.weight": np.zeros((2, 3), np.float32),
        "layer.bias": np.zeros(3, np.float32),
        "half": np.zeros(1, np.float32),
        "double": np.zeros(()),
        "steps": np.array(2**53 + 1),
        "mask": np.array([True, False]),
    }


def check(path: Path, tensors: dict[str, np.ndarray]) -> None:
    write_tensors(path, tensors)
    with TensorFile.open(path) as update:
        check_update(update, WEIGHTS)


def test_an_update_holds_float32_differences_for_the_half_precisions() -> None:
    assert [info.dtype for info in update_signature(WEIGHTS).values()] == [
        "F32", "F32", "F32", "F64", "I64", "BOOL",
    ]  # fmt: skip


def test_an_update_in_any_order_is_accepted(tmp_path: Path) -> None:
    check(tmp_path / "u", dict(reversed(good().items())))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer.weight": None}, "missing: layer.weight"),
        ({"more": np.zeros(1)}, "unexpected: more"),
        ({"layer.bias": np.zeros((3, 1), np.float32)}, r"layer.bias \[3, 1\] instead of \[3\]"),
        ({"layer.bias": np.zeros(3, np.float64)}, "layer.bias F64 instead of F32"),
        ({"steps": np.array(1.0)}, "steps F64 instead of I64"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, change: dict, message: str) -> None:
    tensors = {name: array for name, array in (good() | change).items() if array is not None}
    with pytest.raises(TensorMismatch, match=message):
        check(tmp_path / "u", tensors)


def test_of_many_only_the_first_are_named(tmp_path: Path) -> None:
    with pytest.raises(TensorMismatch, match="and 97 more"):
        check(tmp_path / "u", good() | {f"x{number}": np.zeros(1) for number in range(100)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["layer.bias", "double"])
def test_a_tensor_that_is_not_finite_is_named(tmp_path: Path, name: str, value: float) -> None:
    tensors = good()
    tensors[name] = np.full_like(tensors[name], value)
    with pytest.raises(BadTensors, match=f"'{name}' holds NaN or infinite"):
        check(tmp_path / "u", tensors)


def test_a_nan_at_the_end_of_a_large_tensor_is_found(tmp_path: Path) -> None:
    values = np.zeros(1_000_003, np.float32)
    values[-1] = np.nan
    write_tensors(tmp_path / "u", {"w": values})
    with TensorFile.open(tmp_path / "u") as update, pytest.raises(BadTensors, match="'w'"):
        check_update(update, {"w": TensorInfo("F32", values.shape)})


def test_a_hundred_megabytes_are_checked_in_a_fraction_of_a_second(tmp_path: Path) -> None:
    signature = write_tensors(tmp_path / "u", {"w": np.zeros(25_000_000, np.float32)})
    with TensorFile.open(tmp_path / "u") as update:
        began = time.process_time()
        check_update(update, signature)
        assert time.process_time() - began < 0.5
