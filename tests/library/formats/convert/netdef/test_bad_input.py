"""NetDef files that are broken, random, circular, or lack shapes are refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catchment.errors import ConversionFailed, UnsupportedOperators
from catchment.formats.convert.netdef import interpreter, to_onnx
from catchment.formats.convert.netdef.model import read_model
from catchment.formats.convert.netdef.writer import NetWriter, operator
from catchment.formats.protobuf_writer import content
from tests.model_files.onnx_runs import run_onnx

SHAPE = {"data": (1, 3)}


def network(folder: Path, *operators: tuple[str, list[str], list[str]], **weights: np.ndarray) -> Path:
    net = NetWriter("net")
    for name, values in weights.items():
        net.weight(name, values)
    for kind, inputs, outputs in operators:
        net.add(kind, inputs, outputs)
    net.save(folder, SHAPE, [operators[-1][2][0]])
    return folder


def test_unknown_operators_are_listed_with_their_places(tmp_path: Path) -> None:
    network(tmp_path, ("Frob", ["data"], ["a"]), ("Twist", ["a"], ["b"]), ("Frob", ["b"], ["c"]))
    with pytest.raises(UnsupportedOperators, match=r"operators: Frob \(a, c\); Twist \(b\)") as caught:
        to_onnx.convert(tmp_path, tmp_path, SHAPE)
    assert caught.value.operators == {"Frob": ["a", "c"], "Twist": ["b"]}
    with pytest.raises(ConversionFailed, match=r"operators: Frob \(a, c\); Twist \(b\)"):
        interpreter.run(read_model(tmp_path), {})


def test_a_circle_is_refused(tmp_path: Path) -> None:
    network(tmp_path, ("Add", ["data", "b"], ["a"]), ("Relu", ["a"], ["b"]))
    with pytest.raises(ConversionFailed, match="must not form a circle"):
        to_onnx.convert(tmp_path, tmp_path, SHAPE)


def test_random_weights_are_refused(tmp_path: Path) -> None:
    network(tmp_path, ("Relu", ["data"], ["a"]))
    (tmp_path / "init_net.pb").write_bytes(content(2, operator("XavierFill", [], ["w"], shape=[2])))
    with pytest.raises(ConversionFailed, match=r"init operators: XavierFill \(w\)"):
        to_onnx.convert(tmp_path, tmp_path, SHAPE)


def test_a_filling_that_lies_or_is_too_large_is_refused(tmp_path: Path) -> None:
    network(tmp_path, ("Relu", ["data"], ["a"]))
    for fill, says in (
        (operator("GivenTensorFill", [], ["w"], shape=[3], values=np.ones(2)), r"'w' has 2 values"),
        (operator("ConstantFill", [], ["w"], shape=[2**20, 2**20]), "beyond 2 GiB"),
        (operator("ConstantFill", [], ["w"], shape=[-4]), "dimensions are 0 to"),
        (operator("ConstantFill", [], ["w"], shape=[1], dtype=77), "unknown type"),
    ):
        (tmp_path / "init_net.pb").write_bytes(content(2, fill))
        with pytest.raises(ConversionFailed, match=says):
            to_onnx.convert(tmp_path, tmp_path, SHAPE)


def test_a_missing_shape_weight_or_output_is_named(tmp_path: Path) -> None:
    network(tmp_path, ("FC", ["data", "w", "b"], ["a"]), w=np.ones((2, 3), np.float32))
    with pytest.raises(ConversionFailed, match="no shape for the input b;"):
        to_onnx.convert(tmp_path, tmp_path, SHAPE)
    net = NetWriter("net")
    net.add("Relu", ["data"], ["a"])
    net.save(tmp_path, SHAPE, ["gone"])
    with pytest.raises(ConversionFailed, match="no operator makes the output gone"):
        to_onnx.convert(tmp_path, tmp_path, SHAPE)


def test_cut_files_are_refused(tmp_path: Path) -> None:
    network(tmp_path, ("Relu", ["data"], ["a"]))
    for data in (b"", (tmp_path / "predict_net.pb").read_bytes()[:-1], b"\x0b\x0b"):
        (tmp_path / "predict_net.pb").write_bytes(data)
        with pytest.raises(ConversionFailed, match=r"predict_net.pb is no NetDef"):
            to_onnx.convert(tmp_path, tmp_path, SHAPE)


def test_an_input_that_the_init_net_fills_is_one_when_its_shape_is_given(tmp_path: Path) -> None:
    network(tmp_path, ("Relu", ["data"], ["a"]), data=np.zeros(1, np.float32))
    to_onnx.convert(tmp_path, tmp_path, SHAPE)
    found = run_onnx(tmp_path / "model.onnx", {"data": np.array([[-1, 0, 2]], np.float32)})
    assert found["a"].tolist() == [[0, 0, 2]]
