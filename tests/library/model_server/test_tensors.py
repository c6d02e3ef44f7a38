"""Tensors as raw bytes and as JSON: what goes in comes out, and lies are refused."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.errors import InvalidField
from catchment.model_server.datatypes import DATATYPES, Array, Datatype, bfloat16_bits, bfloat16_values
from catchment.model_server.json_values import from_values, to_values
from catchment.model_server.tensors import Tensor, TensorSpec, check_fits, check_shape, from_bytes, to_bytes

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


def array_of(draw: st.DrawFn, datatype: Datatype, shape: tuple[int, ...]) -> Array:
    count = math.prod(shape)
    if datatype.kind == "bytes":
        array = np.empty(count, object)
        array[:] = draw(st.lists(TEXT, min_size=count, max_size=count))
        return array.reshape(shape)
    if datatype.kind == "bool":
        return np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool).reshape(shape)
    size = count * datatype.carrier.itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    return np.frombuffer(raw, datatype.carrier).reshape(shape)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    datatype = draw(st.sampled_from(list(DATATYPES.values())))
    return Tensor("x", datatype, array_of(draw, datatype, draw(SHAPES)))


@given(tensors())
def test_raw_bytes_of_every_datatype_come_back_bit_by_bit(tensor: Tensor) -> None:
    back = from_bytes(to_bytes(tensor), tensor.datatype, tensor.array.shape, "x")
    assert back.shape == tensor.array.shape
    assert to_bytes(Tensor("x", tensor.datatype, back)) == to_bytes(tensor)


@given(tensors())
def test_json_values_of_every_datatype_come_back(tensor: Tensor) -> None:
    if tensor.datatype.kind == "float":
        values = bfloat16_values(tensor.array) if tensor.datatype.name == "BF16" else tensor.array
        if not np.isfinite(values).all():
            with pytest.raises(InvalidField, match="NaN or infinity"):
                to_values(tensor)
            return
    written = orjson.loads(orjson.dumps(to_values(tensor), option=orjson.OPT_SERIALIZE_NUMPY))
    back = from_values(written, tensor.datatype, tensor.array.shape, "x")
    assert to_bytes(Tensor("x", tensor.datatype, back)) == to_bytes(tensor)


@given(tensors(), st.binary(max_size=40))
def test_other_bytes_are_refused_or_are_such_values(tensor: Tensor, raw: bytes) -> None:
    try:
        array = from_bytes(raw, tensor.datatype, tensor.array.shape, "x")
    except InvalidField:
        return
    assert array.shape == tensor.array.shape
    assert to_bytes(Tensor("x", tensor.datatype, array)) == raw


def test_bytes_off_their_alignment_are_copied() -> None:
    values = np.arange(8, dtype="<f4")
    raw = memoryview(b"abc" + values.tobytes())[3:]
    array = from_bytes(raw, DATATYPES["FP32"], (8,), "x")
    assert array.flags.aligned
    assert array.tolist() == values.tolist()


def test_a_string_that_says_more_than_there_is_is_refused() -> None:
    raw = struct.pack("<I", 0xFFFFFFFF) + b"abcd"
    with pytest.raises(InvalidField, match="ends within element 0"):
        from_bytes(raw, DATATYPES["BYTES"], (1,), "x")
    with pytest.raises(InvalidField, match="need more than"):
        from_bytes(raw, DATATYPES["BYTES"], (1 << 30,), "x")
    with pytest.raises(InvalidField, match="UTF-8"):
        from_bytes(struct.pack("<I", 1) + b"\xff", DATATYPES["BYTES"], (1,), "x")


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        (None, "list of integers"),
        ("12", "list of integers"),
        ([1, -1], "at least 0"),
        ([1.0], "list of integers"),
        ([True], "list of integers"),
        ([1 << 63], "more than"),
        ([1 << 21, 1 << 21], "more than"),
        ([0, 1 << 62], "more than"),
        ([1] * 33, "at most 32"),
    ],
)
def test_shapes_that_lie_are_refused(shape: Any, problem: str) -> None:
    with pytest.raises(InvalidField, match=problem):
        check_shape(shape, "inputs.0")


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT8", [1.0]),
        ("INT8", [128]),
        ("UINT8", [-1]),
        ("INT64", [1 << 63]),
        ("INT32", ["1"]),
        ("INT32", [True]),
        ("BOOL", [1]),
        ("FP32", ["1.5"]),
        ("FP32", [None]),
        ("FP32", [1e300]),
        ("FP16", [70000]),
        ("BF16", [3.4e38]),
        ("FP32", [{}]),
        ("BYTES", [1]),
        ("FP32", 1.0),
        ("FP32", None),
        ("FP32", [[1.0]]),
        ("FP32", [1.0, 2.0]),
    ],
)
def test_values_are_not_bent_to_fit(datatype: str, data: Any) -> None:
    with pytest.raises(InvalidField, match=r"inputs\.0\.data"):
        from_values(data, DATATYPES[datatype], (1,), "inputs.0")


def test_lists_may_be_nested_as_the_shape_says() -> None:
    nested = from_values([[1, 2, 3], [4, 5, 6]], DATATYPES["INT8"], (2, 3), "x")
    assert nested.tolist() == [[1, 2, 3], [4, 5, 6]]
    for wrong in ([[1, 2], [3, 4], [5, 6]], [[1, 2, 3], [4, 5]], [[1, 2, 3], 4, 5, 6], [["abc"], "abc"]):
        with pytest.raises(InvalidField):
            from_values(wrong, DATATYPES["INT8"], (2, 3), "x")


def test_bfloat16_is_rounded_to_the_nearest_with_ties_to_even() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -2.5, float("inf"), float("nan")], np.float32)
    back = bfloat16_values(bfloat16_bits(values))
    assert back[:5].tolist() == [1.0, 1.0, 1.015625, -2.5, float("inf")]
    assert np.isnan(back[5])


def test_inputs_must_be_those_of_the_model() -> None:
    spec = [TensorSpec("a", DATATYPES["FP32"], ("n", 3)), TensorSpec("b", DATATYPES["FP32"], ("n", None))]

    def given_as(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
        return {
            name: Tensor(name, DATATYPES["FP32"], np.zeros(shape, "<f4")) for name, shape in shapes.items()
        }

    check_fits(given_as(a=(2, 3), b=(2, 9)), spec)
    for wrong, field in (
        (given_as(a=(2, 3)), "inputs"),
        (given_as(a=(2, 3), b=(2, 1), c=(1,)), "inputs"),
        (given_as(a=(2, 4), b=(2, 1)), "inputs.a.shape"),
        (given_as(a=(2, 3, 1), b=(2, 1)), "inputs.a.shape"),
        (given_as(a=(2, 3), b=(1, 1)), "inputs.b.shape"),
        (
            {**given_as(a=(2, 3)), "b": Tensor("b", DATATYPES["INT8"], np.zeros((2, 1), "i1"))},
            "inputs.b.datatype",
        ),
    ):
        with pytest.raises(InvalidField) as raised:
            check_fits(wrong, spec)
        assert raised.value.field == field
