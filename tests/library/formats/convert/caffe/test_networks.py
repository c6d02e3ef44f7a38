"""Whole Caffe networks score the same in onnxruntime as in the interpreter of Caffe's documented formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catchment.formats.convert.caffe import interpreter, to_onnx
from catchment.formats.convert.caffe.model import read_net
from tests.model_files.caffe_networks import NETWORKS, write_network
from tests.model_files.onnx_runs import assert_close, run_onnx


@pytest.mark.parametrize("family", NETWORKS)
def test_a_family_scores_the_same(family: str, tmp_path: Path) -> None:
    shape = write_network(family, tmp_path)
    data = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    report = to_onnx.convert(tmp_path, tmp_path, None)
    expected = interpreter.run(read_net(tmp_path), {"data": data})
    assert set(expected) == {"prob"}
    assert expected["prob"].std() > 1e-3, "a network that says the same of everything proves nothing"
    assert_close(run_onnx(tmp_path / "model.onnx", {"data": data}), expected)
    assert report.files == ("model.onnx",)
    assert report.opset == 17


def test_a_free_batch_takes_any_number_of_images(tmp_path: Path) -> None:
    shape = write_network("resnet", tmp_path)
    to_onnx.convert(tmp_path, tmp_path, {"data": (-1, *shape[1:])})
    net = read_net(tmp_path)
    for count in (1, 3):
        data = np.random.default_rng(count).standard_normal((count, *shape[1:])).astype(np.float32)
        assert_close(run_onnx(tmp_path / "model.onnx", {"data": data}), interpreter.run(net, {"data": data}))
