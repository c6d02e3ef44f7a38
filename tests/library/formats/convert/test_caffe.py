"""Caffe models become ONNX by our own map, and by MMdnn's where that stands alone; OpenCV runs the source.

With a free batch, and to NetDef and on, tests/e2e/test_model_rows.py converts the same model.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from catchment.errors import ConversionFailed, InvalidField
from catchment.formats.convert.conversion import Converter, Request
from tests.library.formats.convert.checking import assert_equal_to_source, run_onnx
from tests.library.formats.convert.conftest import Made


@pytest.fixture(scope="session")
def caffe_models(make_models: Callable[[str], Made]) -> Made:
    return make_models("mmdnn")


@pytest.mark.parametrize("backend", ["base", "mmdnn"])
def test_a_caffe_model_with_its_own_batch_scores_as_opencv_runs_it(
    converter: Converter,
    caffe_models: Made,
    tmp_path: Path,
    backend: str,
) -> None:
    options = {"backend": backend}
    request = Request(caffe_models["small"], "CaffeModel", "ONNX", options=options)
    conversion = converter.convert(request, tmp_path / "out")
    assert (conversion.backend, conversion.report.reference) == (backend, "opencv")
    assert_equal_to_source(conversion, "prob")
    made = run_onnx(tmp_path / "out", data=np.ones((1, 3, 8, 8), np.float32))
    assert made["prob"].shape == (1, 5)


def test_a_netdef_without_shapes_is_refused_and_says_which(
    converter: Converter, caffe_models: Made, tmp_path: Path
) -> None:
    converter.convert(Request(caffe_models["small"], "CaffeModel", "NetDef"), tmp_path / "net")
    with pytest.raises(InvalidField, match=r"^inputs: a NetDef file holds no shapes; give .* size of data"):
        converter.convert(Request(tmp_path / "net", "NetDef", "ONNX"), tmp_path / "out")


def test_an_operator_that_our_map_does_not_know_is_left_to_the_next_backend(
    converter: Converter, caffe_models: Made, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(caffe_models["small"], source)
    for name in ("deploy.prototxt", "small.caffemodel"):
        content = (source / name).read_bytes()
        (source / name).write_bytes(content.replace(b"Softmax", b"Sofdmax"))
    with pytest.raises(ConversionFailed, match=r"base: .*Sofdmax.*; mmdnn: "):
        converter.convert(Request(source, "CaffeModel", "ONNX"), tmp_path / "out")
