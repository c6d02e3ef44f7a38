"""CaffeModel to NetDef: the written network computes what the Caffe network does, and its ONNX form too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catchment.errors import ConversionFailed
from catchment.formats.convert.caffe import interpreter, to_netdef
from catchment.formats.convert.caffe.model import read_net
from catchment.formats.convert.netdef import interpreter as netdef
from catchment.formats.convert.netdef import to_onnx
from catchment.formats.convert.netdef.model import read_model
from tests.library.formats.convert.caffe.layer_cases import CASES, Case, write_case
from tests.model_files.caffe_networks import NETWORKS, write_network
from tests.model_files.onnx_runs import assert_close, run_onnx

WITHOUT_COUNTERPART = {
    "ArgMax",
    "Embed",
    "LSTM",
    "MVN",
    "Normalize",
    "Parameter",
    "RNN",
    "Reduction",
    "Swish",
    "Threshold",
}
REFUSED = {
    "BatchNorm batch_norm_param { eps: 0.01 use_global_stats: true }": "needs images",
    "Deconvolution convolution_param { num_output: 2 kernel_size: 3 dilation: 2 group: 2 }": "no dilated",
    "LRN lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.5 }": "within channels",
}


@pytest.mark.parametrize("family", NETWORKS)
def test_a_family_computes_the_same(family: str, tmp_path: Path) -> None:
    shape = write_network(family, tmp_path)
    data = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    report = to_netdef.convert(tmp_path, tmp_path, None)
    assert report.files == ("init_net.pb", "predict_net.pb")
    expected = interpreter.run(read_net(tmp_path), {"data": data})
    model = read_model(tmp_path)
    assert (model.inputs, model.outputs) == (("data",), ("prob",))
    assert_close(netdef.run(model, {"data": data}), expected)
    to_onnx.convert(tmp_path, tmp_path, {"data": shape})
    assert_close(run_onnx(tmp_path / "model.onnx", {"data": data}), expected)


@pytest.mark.parametrize(
    "case",
    [each for each in CASES if each.kind not in WITHOUT_COUNTERPART and str(each) not in REFUSED],
    ids=str,
)
def test_a_layer_computes_the_same(case: Case, tmp_path: Path) -> None:
    feeds, expected = write_case(case, tmp_path)
    to_netdef.convert(tmp_path, tmp_path, None)
    assert_close(netdef.run(read_model(tmp_path), feeds), expected)
    shapes = {name: value.shape for name, value in feeds.items()}
    if set(read_model(tmp_path).inputs) == set(feeds):
        to_onnx.convert(tmp_path, tmp_path, shapes)
        assert_close(run_onnx(tmp_path / "model.onnx", feeds), expected)


@pytest.mark.parametrize("case", [each for each in CASES if str(each) in REFUSED], ids=str)
def test_what_caffe2_cannot_do_is_refused(case: Case, tmp_path: Path) -> None:
    write_case(case, tmp_path)
    with pytest.raises(ConversionFailed, match=REFUSED[str(case)]):
        to_netdef.convert(tmp_path, tmp_path, None)


@pytest.mark.parametrize("kind", sorted(WITHOUT_COUNTERPART))
def test_a_layer_without_counterpart_is_named(kind: str, tmp_path: Path) -> None:
    write_case(next(case for case in CASES if case.kind == kind), tmp_path)
    with pytest.raises(ConversionFailed, match=rf"layers: {kind} \(it\)"):
        to_netdef.convert(tmp_path, tmp_path, None)
