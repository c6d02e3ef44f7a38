"""Formats: the files that each needs, how what is missing is told, and what files without a format are."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catchment.errors import FormatMismatch
from catchment.models.formats import FORMATS, check, infer, named

FITTING = {
    "SavedModel": ["saved_model.pb", "variables/variables.index", "assets/vocab.txt"],
    "ONNX": ["m.onnx", "m.onnx.data"],
    "H5": ["m.h5"],
    "PMML": ["m.pmml"],
    "CaffeModel": ["m.caffemodel", "m.prototxt"],
    "NetDef": ["init_net.pb", "predict_net.pb"],
    "MXNetParams": ["m-symbol.json", "m-0000.params"],
    "TorchScript": ["m.pt"],
    "GraphDef": ["m.graphdef"],
    "TensorRT": ["m.engine"],
    "SKLearn": ["m.joblib"],
    "XGBoost": ["m.xgboost"],
    "MLflow": ["MLmodel", "conda.yaml", "model.pkl"],
    "Pickle": ["m.pickle"],
    "Others": ["m.bin"],
    "MLlib": ["metadata/part-00000", "data/part-00000"],
    "Safetensors": ["model.safetensors", "config.json"],
    "Keras": ["m.keras"],
    "StateDict": ["m.pth"],
    "ExportedProgram": ["m.pt2"],
    "LightGBM": ["m.txt"],
}


def test_every_format_has_an_example() -> None:
    assert set(FITTING) == set(FORMATS)


@pytest.mark.parametrize("name", FITTING)
def test_fitting_files_pass_and_are_inferred(name: str) -> None:
    assert check(name, FITTING[name]).name == name
    assert infer(FITTING[name]).name == (name if FORMATS[name].inferred else "Others")


@pytest.mark.parametrize("name", [name for name in FITTING if name != "Others"])
def test_files_in_a_subfolder_or_otherwise_cased_do_not_count(name: str) -> None:
    for changed in (
        [f"sub/{each}" for each in FITTING[name]],
        [each.swapcase() for each in FITTING[name]],
        [],
    ):
        with pytest.raises(FormatMismatch):
            check(name, changed)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [("MXNETParams", "MXNetParams"), ("onnx", "ONNX"), (" savedmodel", "SavedModel"), ("mlflow", "MLflow")],
)
def test_names_are_taken_however_they_are_cased(written: str, canonical: str) -> None:
    assert named(written).name == canonical


def test_what_is_missing_and_what_is_there_is_said() -> None:
    with pytest.raises(FormatMismatch) as told:
        check("CaffeModel", ["m.caffemodel", "sub/m.prototxt"])
    assert str(told.value) == (
        "a CaffeModel model needs *.prototxt at the top of model/; there are m.caffemodel, sub/"
    )
    with pytest.raises(FormatMismatch) as told:
        check("TensorRT", [])
    assert (
        str(told.value) == "a TensorRT model needs *.plan or *.engine at the top of model/; there is nothing"
    )
    with pytest.raises(FormatMismatch, match=r"a single file .*; there are a.pmml, b.pmml"):
        check("PMML", ["a.pmml", "b.pmml"])
    with pytest.raises(FormatMismatch, match="and 88 more"):
        check("ONNX", [f"f{number:03}" for number in range(100)])
    with pytest.raises(FormatMismatch, match="'tflite' is not known; known are SavedModel, ONNX, "):
        check("tflite", [])


def test_files_of_several_formats_must_be_named() -> None:
    with pytest.raises(FormatMismatch, match="could be ONNX or H5; say which"):
        infer(["m.onnx", "m.h5"])
    assert check("H5", ["m.onnx", "m.h5"]).name == "H5"
    assert infer(["MLmodel", "m.h5"]).name == "MLflow"
    assert infer([]).name == "Others"


@settings(deadline=None)
@given(st.text(max_size=30), st.lists(st.text(max_size=12), max_size=4))
def test_any_names_are_judged(name: str, names: list[str]) -> None:
    for judge in (lambda: check(name, names), lambda: infer(names)):
        with suppress(FormatMismatch):
            assert judge() in FORMATS.values()
