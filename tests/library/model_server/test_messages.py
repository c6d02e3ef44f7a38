"""Bodies of REST and messages of gRPC: good ones are read, all others refused with InvalidField."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catchment.errors import InvalidField
from catchment.model_server import grpc_tensors, rest_messages
from catchment.model_server.datatypes import DATATYPES
from catchment.model_server.grpc_messages import CLASSES
from catchment.model_server.tensors import InferRequest, Tensor, TensorSpec

INPUTS = [TensorSpec("x", DATATYPES["FP32"], ("n", 2)), TensorSpec("s", DATATYPES["BYTES"], (1,))]
OUTPUTS = ["y", "z"]
X = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2]}
S = {"name": "s", "datatype": "BYTES", "shape": [1], "data": ["é"]}


def read(document: object, rest: bytes = b"", length: str | None = None) -> InferRequest:
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    if rest and length is None:
        length = str(len(head))
    return rest_messages.read_request(head + rest, length, INPUTS, OUTPUTS)


def binary(name: str, datatype: str, shape: list[int], size: Any) -> dict[str, Any]:
    parameters = {"binary_data_size": size}
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}


def test_a_request_in_json_is_read() -> None:
    request = read({"id": "7", "inputs": [S, X], "outputs": [{"name": "z"}]})
    assert request.inputs["x"].array.tolist() == [[1.5, 2.0]]
    assert request.inputs["s"].array.tolist() == ["é"]
    assert (request.id, list(request.outputs), request.binary) == ("7", ["z"], frozenset())


def test_a_request_with_raw_bytes_is_read() -> None:
    raw = np.array([1.5, 2], "<f4").tobytes()
    request = read(
        {"inputs": [S, binary("x", "FP32", [1, 2], 8)], "parameters": {"binary_data_output": True}}, raw
    )
    assert request.inputs["x"].array.tolist() == [[1.5, 2.0]]
    assert request.binary == {"y", "z"}


def test_outputs_go_binary_as_each_says() -> None:
    asked = [{"name": "y", "parameters": {"binary_data": False}}, {"name": "z"}]
    request = read({"inputs": [X, S], "outputs": asked, "parameters": {"binary_data_output": True}})
    assert request.binary == {"z"}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b"\xff", "body"),
        (b'{"inputs": [NaN]}', "body"),
        (b"[" * 5000, "body"),
        (b'{"inputs":' + b"[" * 900 + b"]" * 900 + b"}", "inputs.0"),
        ({}, "inputs"),
        ({"inputs": {}}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [X, S], "more": 1}, "body"),
        ({"inputs": [X, X, S]}, "inputs.1.name"),
        ({"inputs": [{**X, "name": 1}, S]}, "inputs.0.name"),
        ({"inputs": [{**X, "datatype": "fp32"}, S]}, "inputs.0.datatype"),
        ({"inputs": [{**X, "shape": [-1, 2]}, S]}, "inputs.0.shape"),
        ({"inputs": [{**X, "parameters": []}, S]}, "inputs.0.parameters"),
        (
            {"inputs": [{**X, "parameters": {"shared_memory_region": "r"}}, S]},
            "inputs.0.parameters.shared_memory_region",
        ),
        ({"inputs": [X, S], "outputs": [{"name": "q"}]}, "outputs.0.name"),
        ({"inputs": [X, S], "outputs": [{"name": ["y"]}]}, "outputs.0.name"),
        ({"inputs": [X, S], "outputs": [{"name": "y"}, {"name": "y"}]}, "outputs.1.name"),
        ({"inputs": [X, S], "parameters": {"binary_data_output": 1}}, "parameters.binary_data_output"),
        ({"inputs": [X, S], "id": 5}, "id"),
    ],
)
def test_bodies_that_are_wrong_are_refused_by_field(document: Any, field: str) -> None:
    with pytest.raises(InvalidField) as raised:
        read(document)
    assert raised.value.field == field


@pytest.mark.parametrize("size", [7, 9, -1, 8.0, "8", True, 1 << 70, None])
def test_a_size_that_lies_is_refused(size: Any) -> None:
    with pytest.raises(InvalidField):
        read({"inputs": [S, binary("x", "FP32", [1, 2], size)]}, bytes(8))


@pytest.mark.parametrize("length", ["", "-1", "99999", "1e2", "٣", "9" * 400, "5"])
def test_a_json_length_that_lies_is_refused(length: str) -> None:
    with pytest.raises(InvalidField):
        read({"inputs": [S, binary("x", "FP32", [1, 2], 8)]}, bytes(8), length)


def test_bytes_that_belong_to_nothing_are_refused() -> None:
    with pytest.raises(InvalidField, match="belong to no input"):
        read({"inputs": [X, S]}, b"left over")


KEYS = st.sampled_from([*X, "parameters", "binary_data_size", "inputs", "outputs"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "x", "FP32", "é"])
JSON = st.recursive(
    LEAVES, lambda each: st.lists(each, max_size=3) | st.dictionaries(KEYS, each, max_size=4), max_leaves=12
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(["inputs", "outputs", "parameters", "id"]), JSON),
    st.sampled_from([X, S, {}]),
    st.dictionaries(st.sampled_from([*X, "parameters"]), JSON, max_size=2),
    st.binary(max_size=24),
    st.none() | st.integers(0, 400).map(str),
)
def test_no_body_does_more_than_be_refused(
    document: dict[str, Any], base: dict[str, Any], changed: dict[str, Any], rest: bytes, length: str | None
) -> None:
    whole = {"inputs": [{**base, **changed}, S], **document}
    try:
        request = read(json.dumps(whole).encode("utf-8", "replace"), rest, length)
    except InvalidField:
        return
    assert request.inputs.keys() == {"x", "s"}


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(raw: bytes) -> None:
    with pytest.raises(InvalidField):
        rest_messages.read_request(raw, None, INPUTS, OUTPUTS)


def message(**changes: Any) -> Any:
    made = CLASSES["ModelInferRequest"](model_name="m")
    made.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    made.inputs.add(name="s", datatype="BYTES", shape=[1])
    for key, value in changes.items():
        getattr(made, key).extend(value)
    return made


def test_a_message_with_raw_contents_is_read() -> None:
    raw = [np.array([1.5, 2], "<f4").tobytes(), b"\x02\0\0\0" + "é".encode()]
    request = grpc_tensors.read_request(message(raw_input_contents=raw), INPUTS, OUTPUTS)
    assert request.inputs["x"].array.tolist() == [[1.5, 2.0]]
    assert request.inputs["s"].array.tolist() == ["é"]
    assert list(request.outputs) == OUTPUTS


def test_a_message_with_typed_contents_is_read() -> None:
    made = message()
    made.inputs[0].contents.fp32_contents.extend([1.5, 2])
    made.inputs[1].contents.bytes_contents.append("é".encode())
    request = grpc_tensors.read_request(made, INPUTS, OUTPUTS)
    assert request.inputs["x"].array.tolist() == [[1.5, 2.0]]


def test_contents_of_another_type_or_number_are_refused() -> None:
    for field, values in (("fp64_contents", [1.0, 2.0]), ("fp32_contents", [1.0]), ("fp32_contents", [])):
        made = message()
        getattr(made.inputs[0].contents, field).extend(values)
        with pytest.raises(InvalidField, match=r"inputs\.0"):
            grpc_tensors.read_request(made, INPUTS, OUTPUTS)
    with pytest.raises(InvalidField, match="1 parts for 2 inputs"):
        grpc_tensors.read_request(message(raw_input_contents=[b""]), INPUTS, OUTPUTS)


@settings(max_examples=300)
@given(
    st.binary(max_size=40),
    st.integers(0, 200),
    st.binary(max_size=8),
    st.lists(st.binary(max_size=12), max_size=3),
)
def test_no_message_does_more_than_be_refused(tail: bytes, at: int, put: bytes, raw: list[bytes]) -> None:
    whole = message(raw_input_contents=raw).SerializeToString()
    try:
        made = CLASSES["ModelInferRequest"].FromString(whole[:at] + put + whole[at:] + tail)
        request = grpc_tensors.read_request(made, INPUTS, OUTPUTS)
    except (InvalidField, DecodeError):
        return
    assert request.inputs.keys() == {"x", "s"}


def test_replies_of_both_faces_say_the_same() -> None:
    tensors = [
        Tensor("y", DATATYPES["FP32"], np.array([[1.5]], "<f4")),
        Tensor("z", DATATYPES["INT64"], np.array(3, "<i8")),
    ]
    request = InferRequest({}, OUTPUTS, "7", frozenset({"z"}))
    body, length = rest_messages.write_reply("m", "2", request, tensors)
    head = orjson.loads(body[:length])
    assert head == {
        "model_name": "m",
        "model_version": "2",
        "id": "7",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [1.5]},
            {"name": "z", "datatype": "INT64", "shape": [], "parameters": {"binary_data_size": 8}},
        ],
    }
    reply = grpc_tensors.write_reply("m", "2", request, tensors)
    assert (reply.model_name, reply.id, list(reply.outputs[0].shape)) == ("m", "7", [1, 1])
    assert list(reply.raw_output_contents) == [np.array([1.5], "<f4").tobytes(), body[length:]]
