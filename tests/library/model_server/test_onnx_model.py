"""Models in onnxruntime: every datatype, what cannot be loaded, what fails, what takes too long."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime import RunOptions

from catchment.errors import DeadlinePassed, InferenceFailed, ModelUnusable
from catchment.model_server.datatypes import DATATYPES
from catchment.model_server.onnx_model import OnnxModel, find_model_file
from catchment.model_server.tensors import Tensor, to_bytes
from catchment.model_server.watch import Watch
from tests.model_servers import counter, identity, lookup, save


def load(folder: Path) -> OnnxModel:
    return OnnxModel(find_model_file(folder))


@pytest.mark.parametrize("name", DATATYPES)
def test_every_datatype_goes_through_a_model(name: str, tmp_path: Path) -> None:
    datatype = DATATYPES[name]
    model = load(identity(tmp_path, name))
    model.smoke({})
    assert (model.inputs[0].datatype, model.inputs[0].sizes) == (datatype, [-1, 2])
    values = {"bool": [[True, False]], "bytes": [["é", ""]]}.get(datatype.kind, [[1, 2]])
    given = Tensor("x", datatype, np.array(values, datatype.carrier))
    (back,) = model.run({"x": given}, ["y"], RunOptions())
    assert back.datatype is datatype
    assert to_bytes(back) == to_bytes(given)


def test_the_model_may_be_in_the_folder_model(tmp_path: Path) -> None:
    identity(tmp_path / "model", "FP32")
    assert load(tmp_path).outputs[0].name == "y"


def test_folders_without_one_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="is no folder"):
        load(tmp_path / "absent")
    with pytest.raises(ModelUnusable, match="has no file"):
        load(tmp_path)
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelUnusable, match=r"several models: a\.onnx, b\.onnx"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x09" + bytes(50)])
def test_files_that_are_no_model_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelUnusable, match=r"cannot load m\.onnx"):
        load(tmp_path)


def test_outputs_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    save(tmp_path, helper.make_graph([node], "sequence", [x], [y]))
    with pytest.raises(ModelUnusable, match=r"output 'y' is a seq\(tensor\(float\)\)"):
        load(tmp_path)


def test_weights_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(8))
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", "8")):
        weight.external_data.add(key=key, value=value)
    node = helper.make_node("Add", ["x", "w"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    model = helper.make_model(helper.make_graph([node], "outside", [x], [y], [weight]), ir_version=9)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelUnusable, match="cannot load"):
        load(folder)


def test_a_model_that_fails_says_so_and_goes_on(tmp_path: Path) -> None:
    model = load(lookup(tmp_path))

    def ask(row: int) -> float:
        given = Tensor("row", DATATYPES["INT64"], np.array([row], "<i8"))
        return float(model.run({"row": given}, ["value"], RunOptions())[0].array[0, 0])

    with pytest.raises(InferenceFailed, match="out of data bounds"):
        ask(7)
    assert ask(1) == 2.0


def test_a_smoke_inference_that_fails_makes_the_model_unusable(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [2, 2])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])
    model = load(save(tmp_path, helper.make_graph([node], "four", [x], [y], [shape])))
    with pytest.raises(ModelUnusable, match="smoke inference on zeros failed"):
        model.smoke({})
    model.smoke({"x": [4]})


def test_an_inference_ends_at_its_deadline(tmp_path: Path) -> None:
    model = load(counter(tmp_path))
    watch = Watch()

    def count(turns: int, seconds: float) -> int:
        given = Tensor("turns", DATATYPES["INT64"], np.array([turns], "<i8"))
        with watch.until(time.monotonic() + seconds) as options:
            return int(model.run({"turns": given}, ["counted"], options)[0].array)

    assert count(10, 60) == 10
    began = time.monotonic()
    with pytest.raises(DeadlinePassed):
        count(1 << 60, 0.2)
    assert time.monotonic() - began < 10
    assert count(10, 60) == 10


def test_the_sample_models_are_valid(tmp_path: Path) -> None:
    assert onnx.load(counter(tmp_path) / "model.onnx").graph.name == "counter"
