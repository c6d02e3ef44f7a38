"""MXNet models become ONNX; MXNet itself runs the source to compare with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from catchment.errors import InvalidField
from catchment.formats.convert.conversion import Converter, Request
from catchment.formats.convert.tensor_spec import TensorSpec
from tests.library.formats.convert.checking import assert_equal_to_source, run_onnx
from tests.library.formats.convert.conftest import Made

DATA = TensorSpec("data", "float32", (None, 3, 8, 8))


@pytest.fixture(scope="session")
def mxnet_models(make_models: Callable[[str], Made]) -> Made:
    return make_models("mxnet")


def test_a_symbol_with_its_parameters_scores_the_same_in_onnxruntime(
    converter: Converter, mxnet_models: Made, tmp_path: Path
) -> None:
    request = Request(mxnet_models["small"], "MXNETParams", "onnx", inputs=(DATA,))
    conversion = converter.convert(request, tmp_path / "out")
    assert conversion.report.reference == "mxnet"
    assert_equal_to_source(conversion, "softmax_output")
    assert run_onnx(tmp_path / "out", data=np.ones((3, 3, 8, 8), np.float32))["softmax_output"].shape == (
        3,
        5,
    )


def test_shapes_that_lack_are_asked_for_by_name(
    converter: Converter, mxnet_models: Made, tmp_path: Path
) -> None:
    with pytest.raises(InvalidField, match=r"^inputs: an MXNet model holds no shapes?.* data"):
        converter.convert(Request(mxnet_models["small"], "MXNetParams", "ONNX"), tmp_path / "out")
