"""Caffe models become ONNX by our own map, and by MMdnn's where that stands alone; OpenCV runs the source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from catchment.formats.convert import routes
from catchment.formats.convert.conversion import Converter, Request
from catchment.formats.convert.tensor_spec import TensorSpec
from tests.library.formats.convert.checking import assert_equal_to_source, run_onnx
from tests.library.formats.convert.conftest import Made

pytest.importorskip(
    "catchment.formats.convert.caffe.model", reason="the map of Caffe is not in this checkout"
)
pytestmark = pytest.mark.xdist_group("conversion-caffe")
FREE = (TensorSpec("data", "float32", (None, 3, 8, 8)),)


@pytest.fixture(scope="session")
def caffe_models(make_models: Callable[[str], Made]) -> Made:
    return make_models("mmdnn")


@pytest.mark.parametrize("backend", ["base", "mmdnn"])
@pytest.mark.parametrize("inputs", [(), FREE], ids=["its own batch", "a free batch"])
def test_a_caffe_model_scores_as_opencv_runs_it(
    converter: Converter,
    caffe_models: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    inputs: tuple[TensorSpec, ...],
) -> None:
    pair = ("CaffeModel", "ONNX")
    monkeypatch.setitem(routes.ROUTES, pair, replace(routes.ROUTES[pair], backends=(backend,)))
    request = Request(caffe_models["small"], *pair, inputs=inputs)
    conversion = converter.convert(request, tmp_path / "out")
    assert (conversion.backend, conversion.report.reference) == (backend, "opencv")
    assert_equal_to_source(conversion, "prob")
    rows = 3 if inputs else 1
    made = run_onnx(tmp_path / "out", data=np.ones((rows, 3, 8, 8), np.float32))
    assert made["prob"].shape == (rows, 5)
