"""MLServer's settings of a model."""

from __future__ import annotations

import pytest

from catchment.errors import InvalidField
from catchment.serving.manifests.mlserver import IMPLEMENTATIONS, model_settings
from tests.serving_workloads import X, Y


@pytest.mark.parametrize("format_name", IMPLEMENTATIONS)
def test_the_class_follows_the_format(format_name: str) -> None:
    made = model_settings("digits", format_name, "./model/a.joblib", "v3")
    assert made == {
        "name": "digits",
        "implementation": IMPLEMENTATIONS[format_name],
        "parameters": {"uri": "./model/a.joblib", "version": "v3"},
    }


def test_tensors_are_told_in_the_protocols_types() -> None:
    made = model_settings("m", "SKLearn", "f", inputs=(X,), outputs=({**Y, "dType": "string"},))
    assert made["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}]
    assert made["outputs"][0]["datatype"] == "BYTES"
    assert "version" not in made["parameters"]


@pytest.mark.parametrize("lacks", ["name", "dType"])
def test_a_signature_that_does_not_say_all_is_left_out(lacks: str) -> None:
    made = model_settings("m", "SKLearn", "f", inputs=(X, {**X, lacks: ""}), outputs=(Y,))
    assert "inputs" not in made
    assert len(made["outputs"]) == 1


def test_types_that_mlserver_lacks_are_refused_by_field() -> None:
    with pytest.raises(InvalidField, match="complex64") as caught:
        model_settings("m", "SKLearn", "f", inputs=(X, {**X, "dType": "complex64"}))
    assert caught.value.field == "signature.inputs[1].dType"


def test_other_formats_are_refused() -> None:
    with pytest.raises(InvalidField, match="MLServer serves SKLearn"):
        model_settings("m", "ONNX", "f")
