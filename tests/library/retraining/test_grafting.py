"""Weights go into an ONNX graph by the names of its initializers, to the bit, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from catchment.errors import BadArtifact, TensorMismatch
from catchment.formats import protobuf
from catchment.models.reading import TensorFile
from catchment.retraining.graft_running import run_graft
from catchment.retraining.grafting import graft
from tests.onnx_graphs import linear_onnx


def weights_file(path: Path, **arrays: np.ndarray) -> Path:
    save_file(arrays, str(path))
    return path


def grafted(model: Path, weights: Path, keep: tuple[str, ...] = ()) -> bytes:
    with TensorFile.open(weights) as tensors:
        return b"".join(graft(protobuf.mapped(model), tensors, keep))


@settings(deadline=None, max_examples=30)
@given(inputs=st.integers(1, 9), outputs=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_the_graph_computes_with_the_weights(tmp_path_factory, inputs, outputs, seed):
    folder = tmp_path_factory.mktemp("graft")
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(outputs, inputs)).astype(np.float32)
    bias = rng.normal(size=outputs).astype(np.float32)
    model = linear_onnx(folder / "m.onnx", inputs, outputs)
    weights = weights_file(folder / "w.safetensors", weight=weight, bias=bias)
    run_graft(model, weights, folder / "out.onnx") if seed % 10 == 0 else (folder / "out.onnx").write_bytes(
        grafted(model, weights)
    )
    onnx.checker.check_model(str(folder / "out.onnx"))
    session = onnxruntime.InferenceSession(str(folder / "out.onnx"), providers=["CPUExecutionProvider"])
    x = rng.normal(size=(3, inputs)).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ weight.T + bias, rtol=1e-4, atol=1e-5)


def test_only_the_initializers_change(tmp_path):
    model = linear_onnx(tmp_path / "m.onnx")
    arrays = {"weight": np.array([[1, 2]], np.float32), "bias": np.array([3], np.float32)}
    found = onnx.load_from_string(grafted(model, weights_file(tmp_path / "w.safetensors", **arrays)))
    before = onnx.load(str(model))
    for each in found.graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(each), arrays[each.name])
    del found.graph.initializer[:], before.graph.initializer[:]
    assert found == before


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (
            {"weight": np.zeros((2, 1), np.float32), "bias": np.zeros(1, np.float32)},
            r"'weight' is F32 \[2, 1\]",
        ),
        ({"weight": np.zeros((1, 2), np.float64), "bias": np.zeros(1, np.float32)}, r"'weight' is F64"),
        ({"weights": np.zeros((1, 2), np.float32)}, "no initializer 'weights'; it has bias, weight"),
        ({"bias": np.zeros(1, np.float32)}, "'weight' looks like a weight and is not among the job's"),
    ],
)
def test_another_models_weights_are_refused(tmp_path, arrays, sentence):
    model, weights = linear_onnx(tmp_path / "m.onnx"), weights_file(tmp_path / "w.safetensors", **arrays)
    with pytest.raises(TensorMismatch, match=sentence):
        grafted(model, weights)
    with pytest.raises(TensorMismatch, match=sentence):
        run_graft(model, weights, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_counters_may_be_missing_and_constants_may_stay(tmp_path):
    model = linear_onnx(tmp_path / "m.onnx", mean=np.ones(2, np.float32))
    arrays = {"weight": np.ones((1, 2), np.float32), "bias": np.ones(1, np.float32)}
    weights = weights_file(tmp_path / "w.safetensors", **arrays, num_batches_tracked=np.array(3))
    with pytest.raises(TensorMismatch, match=r"'mean' looks like a weight.*convert\.keep"):
        grafted(model, weights)
    kept = onnx.load_from_string(grafted(model, weights, ("mean",)))
    assert {each.name for each in kept.graph.initializer} == {"weight", "bias", "mean"}


def test_files_that_are_no_onnx_models_are_refused_by_the_child(tmp_path):
    weights = weights_file(tmp_path / "w.safetensors", weight=np.zeros((1, 2), np.float32))
    whole = linear_onnx(tmp_path / "whole.onnx").read_bytes()
    for number, data in enumerate((b"", b"\xff" * 40, whole[: len(whole) // 2], b"\x08\x07")):
        (tmp_path / f"{number}.onnx").write_bytes(data)
        with pytest.raises(BadArtifact):
            run_graft(tmp_path / f"{number}.onnx", weights, tmp_path / "out.onnx")


def test_tensors_in_other_files_are_refused(tmp_path):
    outside = helper.make_tensor("elsewhere", TensorProto.FLOAT, [2], np.zeros(2, np.float32))
    outside.ClearField("float_data")
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../../etc/passwd")
    model = onnx.load(str(linear_onnx(tmp_path / "m.onnx")))
    model.graph.initializer.append(outside)
    (tmp_path / "out.onnx").write_bytes(model.SerializeToString())
    arrays = {"weight": np.ones((1, 2), np.float32), "bias": np.ones(1, np.float32)}
    with pytest.raises(BadArtifact, match="'elsewhere' in another file"):
        grafted(tmp_path / "out.onnx", weights_file(tmp_path / "w.safetensors", **arrays))
