"""The table of routes: what goes, what does not and why, and options that are checked by name."""

from __future__ import annotations

from typing import Any

import pytest

from catchment.errors import ConversionFailed, InvalidField
from catchment.formats.convert import routes
from catchment.formats.convert.backend import BACKENDS
from catchment.formats.convert.running import Bounds, ending
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec, completed, specs
from catchment.site.launch_file import Outcome


@pytest.mark.parametrize("pair", routes.ROUTES, ids=" to ".join)
def test_every_route_names_backends_that_exist(pair: tuple[str, str]) -> None:
    route = routes.ROUTES[pair]
    assert (route.source, route.target) == pair
    assert route.backends
    assert {*route.backends, *route.references, route.runtime} <= set(BACKENDS)
    assert route.references, "every source has something to be compared with"


@pytest.mark.parametrize(("source", "target"), [("MXNETParams", "ONNX"), ("mxnetparams", "onnx")])
def test_a_format_is_found_however_it_is_spelled(source: str, target: str) -> None:
    assert routes.find_route(source, target).source == "MXNetParams"


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("ONNX", "SavedModel", "ONNX cannot become SavedModel: ONNX can become ONNX"),
        ("H5", "TensorRT", "H5 can become SavedModel, ONNX"),
        ("PMML", "ONNX", "PMML can become nothing"),
        ("statedict", "onnx", "tensors and no graph"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(source: str, target: str, words: str) -> None:
    with pytest.raises(ConversionFailed, match=words):
        routes.find_route(source, target)


@pytest.mark.parametrize(
    ("source", "options", "field"),
    [
        ("H5", {"allow_pickle": True}, "allow_pickle"),
        ("SKLearn", {"allow_pickle": "yes"}, "allow_pickle"),
        ("H5", {"opset": True}, "opset"),
        ("H5", {"opset": 3}, "opset"),
        ("ONNX", {"operation": 7}, "operation"),
        ("XGBoost", {"anything": 1}, "anything"),
        ("CaffeModel", {"backend": "mxnet"}, "backend"),
        ("CaffeModel", {"backend": True}, "backend"),
    ],
)
def test_a_wrong_option_is_named(source: str, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        routes.checked_options(routes.find_route(source, "ONNX"), options)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("x", "inputs"),
        ([1], "inputs[0]"),
        ([{"dType": "float32"}], "inputs[0].name"),
        ([{"name": "", "dType": "float32"}], "inputs[0].name"),
        ([{"name": "x", "dType": "float"}], "inputs[0].dType"),
        ([{"name": "x", "dType": "float32", "size": "3"}], "inputs[0].size"),
        ([{"name": "x", "dType": "float32", "size": [0]}], "inputs[0].size"),
        ([{"name": "x", "dType": "float32", "size": [True]}], "inputs[0].size"),
        ([{"name": "x", "dType": "float32", "size": [1] * 17}], "inputs[0].size"),
        ([{"name": "x", "dType": "float32"}] * 2, "inputs"),
    ],
)
def test_a_wrong_input_is_named(value: Any, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        specs(value, "inputs")
    assert caught.value.field == field


def test_a_signature_is_read_as_it_was_written() -> None:
    signature = ModelSignature(
        (TensorSpec("x", "float32", (None, 3)), TensorSpec("z", "int64", ())),
        (TensorSpec("y", "bool", None),),
    )
    assert ModelSignature.from_json(signature.to_json()) == signature
    assert signature.to_json()["inputs"][0] == {"name": "x", "dType": "float32", "size": [-1, 3]}


def test_given_inputs_fill_what_the_file_leaves_open_and_contradict_nothing() -> None:
    own = (TensorSpec("x", "float32", (None, None, 3)), TensorSpec("y", "float32", None))
    given = (TensorSpec("x", "float32", (None, 7, 3)), TensorSpec("y", "float32", (2,)))
    assert completed(own, given, "inputs") == given
    with pytest.raises(InvalidField, match=r"inputs: names 'z', the model's inputs are x, y"):
        completed(own, (TensorSpec("z", "float32", None),), "inputs")
    with pytest.raises(InvalidField, match="inputs: says x float32"):
        completed(own, (TensorSpec("x", "float32", (1, 7, 4)),), "inputs")


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome("memory", used_mb=7000), "ended at 7000 MB of memory, 6000 MB are allowed"),
        (Outcome("timed_out"), "ended after 900 s"),
        (Outcome("exited", code=-9), "killed (signal 9): most likely the machine was out of memory"),
        (Outcome("exited", code=-11), "crashed (signal 11)"),
        (Outcome("exited", code=-25), "wrote a file of more than 8000 MB"),
        (Outcome("exited", code=-24), "1800 s of the processor"),
        (Outcome("exited", code=3), "exit code 3 and without a result"),
        (Outcome("processes"), "too many processes"),
        (Outcome("lost"), "killed from outside"),
        (Outcome("not_isolated", part="network", reason="EPERM"), "sandbox cannot be had (network: EPERM)"),
    ],
)
def test_an_unhappy_end_is_told_in_words(outcome: Outcome, words: str) -> None:
    assert words in ending(outcome, Bounds())
