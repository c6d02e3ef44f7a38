"""Keras files, SavedModels and frozen graphs become SavedModels and ONNX, and score as they did.

Pairs that tests/e2e/test_model_rows.py tries with the same models are not repeated here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catchment.errors import ConversionFailed, InvalidField
from catchment.formats.convert.conversion import Converter, Request
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec
from tests.library.formats.convert.checking import assert_equal_to_source, run_onnx
from tests.library.formats.convert.conftest import Made

IMAGE = np.ones((3, 8, 8, 3), np.float32)


@pytest.mark.parametrize(
    ("name", "source_format", "outputs"),
    [
        ("h5", "H5", ("classes", "score")),
        ("saved_model", "SavedModel", ("output_0", "output_1")),
    ],
)
def test_the_result_scores_the_same_in_onnxruntime_under_the_same_names(
    converter: Converter,
    tensorflow_models: Made,
    tmp_path: Path,
    name: str,
    source_format: str,
    outputs: tuple[str, ...],
) -> None:
    conversion = converter.convert(Request(tensorflow_models[name], source_format, "ONNX"), tmp_path / "out")
    assert_equal_to_source(conversion, *outputs)
    made = run_onnx(tmp_path / "out", image=IMAGE)
    assert {each: array.shape for each, array in made.items()} == {outputs[0]: (3, 5), outputs[1]: (3, 1)}
    assert conversion.signature.inputs == (TensorSpec("image", "float32", (None, 8, 8, 3)),)


def test_a_keras_file_becomes_a_saved_model_that_keeps_its_names(
    converter: Converter, tensorflow_models: Made, tmp_path: Path
) -> None:
    request = Request(tensorflow_models["h5"], "H5", "SavedModel")
    conversion = converter.convert(request, tmp_path / "out")
    assert_equal_to_source(conversion, "classes", "score")
    assert conversion.report.runtime == "tensorflow"
    assert (tmp_path / "out" / "saved_model.pb").is_file()
    assert [each.name for each in conversion.signature.inputs] == ["image"]


def test_a_sequential_lstm_becomes_onnx(
    converter: Converter, tensorflow_models: Made, tmp_path: Path
) -> None:
    conversion = converter.convert(Request(tensorflow_models["lstm"], "H5", "ONNX"), tmp_path / "out")
    assert_equal_to_source(conversion, "ends")


def test_a_stored_signature_that_contradicts_the_file_is_named(
    converter: Converter, tensorflow_models: Made, tmp_path: Path
) -> None:
    stored = ModelSignature((TensorSpec("image", "float32", (None, 3, 8, 8)),))
    request = Request(tensorflow_models["h5"], "H5", "ONNX", signature=stored)
    with pytest.raises(InvalidField, match=r"signature\.inputs: says image .*3, 8, 8.*the model's file says"):
        converter.convert(request, tmp_path / "out")


@pytest.mark.parametrize(("name", "source_format"), [("lambda_h5", "H5"), ("lambda_keras", "Keras")])
def test_a_lambda_layer_is_refused_and_never_executed(
    converter: Converter, tensorflow_models: Made, tmp_path: Path, name: str, source_format: str
) -> None:
    with pytest.raises(ConversionFailed, match="Lambda layer, which is Python code"):
        converter.convert(Request(tensorflow_models[name], source_format, "ONNX"), tmp_path / "out")
    assert not tensorflow_models.canary.exists()


def test_a_saved_model_that_writes_files_writes_none_outside_of_the_child(
    converter: Converter, tensorflow_models: Made, tmp_path: Path
) -> None:
    with pytest.raises(ConversionFailed):
        converter.convert(Request(tensorflow_models["writing"], "SavedModel", "ONNX"), tmp_path / "out")
    assert not tensorflow_models.canary.exists()
    assert not (tmp_path / "out").exists()
