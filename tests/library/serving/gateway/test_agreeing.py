"""When two versions have answered alike."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from catchment.serving.gateway.agreeing import Reply, agree

TYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "UINT8": np.uint8, "BOOL": np.bool_}


def in_json(kind: str, values: Any, version: str = "1") -> Reply:
    array = np.asarray(values)
    output = {"name": "y", "datatype": kind, "shape": array.shape, "data": array.ravel().tolist()}
    return Reply(200, json.dumps({"model_version": version, "outputs": [output]}).encode())


def in_bytes(kind: str, values: Any, version: str = "1") -> Reply:
    array = np.ascontiguousarray(values)
    parameters = {"binary_data_size": array.nbytes}
    output = {"name": "y", "datatype": kind, "shape": array.shape, "parameters": parameters}
    head = json.dumps({"model_version": version, "outputs": [output]}).encode()
    return Reply(200, head + array.tobytes(), len(head))


@given(st.data(), st.sampled_from(sorted(TYPES)))
def test_the_same_outputs_agree_however_they_are_written(data: st.DataObject, kind: str) -> None:
    shapes = arrays.array_shapes(min_dims=1, max_dims=3, max_side=4)
    elements = {"allow_nan": False, "allow_infinity": False} if kind.startswith("FP") else None
    values = data.draw(arrays.arrays(TYPES[kind], shapes, elements=elements))
    assert agree(in_json(kind, values, "1"), in_json(kind, values, "2"))
    assert agree(in_json(kind, values, "1"), in_bytes(kind, values, "2"))
    assert agree(in_bytes(kind, values, "1"), in_bytes(kind, values, "2"))


@given(arrays.arrays(np.float32, (3, 4), elements=st.floats(-10, 10, width=32)), st.floats(0.5, 2.0))
def test_scores_agree_when_their_largest_entries_do(scores: Any, scale: float) -> None:
    assert agree(in_json("FP32", scores), in_json("FP32", scores * np.float32(2)))
    turned = scores.copy()
    turned[0, (int(turned[0].argmax()) + 1) % 4] = np.float32(100 * scale)
    assert not agree(in_json("FP32", scores), in_bytes("FP32", turned))


def test_other_numbers_agree_when_they_are_close() -> None:
    assert agree(in_json("FP32", [[1.0], [2.0]]), in_json("FP32", [[1.001], [2.0]]))
    assert not agree(in_json("FP32", [[1.0], [2.0]]), in_json("FP32", [[1.1], [2.0]]))
    assert not agree(in_json("INT64", [7]), in_json("INT64", [8]))


def test_strings_agree_when_they_are_equal() -> None:
    assert agree(in_json("BYTES", ["cat"], "1"), in_json("BYTES", ["cat"], "2"))
    assert not agree(in_json("BYTES", ["cat"]), in_json("BYTES", ["dog"]))


def test_another_shape_type_or_output_disagrees() -> None:
    one = in_json("FP32", [[1.0, 2.0]])
    assert not agree(one, in_json("FP32", [1.0, 2.0]))
    assert not agree(one, in_json("FP64", [[1.0, 2.0]]))
    assert not agree(one, Reply(200, one.body.replace(b'"y"', b'"z"')))


def test_an_error_or_nonsense_agrees_with_nothing() -> None:
    good = in_json("FP32", [1.0])
    for other in (
        Reply(500, good.body),
        Reply(0, b""),
        Reply(200, b"no"),
        Reply(200, b"[]"),
        Reply(200, b"{}"),
    ):
        assert not agree(good, other)
        assert not agree(other, good)


@given(st.binary(max_size=200), st.none() | st.integers(0, 300))
def test_whatever_comes_is_compared_without_an_error(body: bytes, length: int | None) -> None:
    agree(in_json("FP32", [1.0]), Reply(200, body, length))
