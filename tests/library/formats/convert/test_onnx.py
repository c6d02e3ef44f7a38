"""ONNX becomes slimmer, newer or smaller; what is damaged or leads out of its folder is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from catchment.errors import ConversionFailed, GateFailed, InvalidField
from catchment.formats.convert.conversion import Converter, Request
from tests.library.formats.convert.checking import assert_equal_to_source, run_onnx

WIDE = 64


def network(opset: int = 17, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Two layers with an operation between that a constant fold removes."""
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=(WIDE, WIDE)).astype(np.float32) for _ in range(2)]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("Add", ["one", "one"], ["two"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Mul", ["b", "two"], ["c"]),
        helper.make_node("Identity", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "w1"], ["y"]),
    ]
    known = [numpy_helper.from_array(each, f"w{index}") for index, each in enumerate(weights)]
    known.append(numpy_helper.from_array(np.float32(0.5), "one"))
    ends = [helper.make_tensor_value_info(name, dtype, ["batch", WIDE]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], known)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    onnx.save(network(), folder / "network.onnx")
    return folder


ROWS = np.random.default_rng(1).normal(size=(3, WIDE)).astype(np.float32)


def test_slimming_folds_constants_and_changes_nothing(
    converter: Converter, source: Path, tmp_path: Path
) -> None:
    conversion = converter.convert(
        Request(source, "ONNX", "ONNX", options={"operation": "slim"}), tmp_path / "out"
    )
    assert_equal_to_source(conversion, "y")
    made = onnx.load(tmp_path / "out" / "model.onnx")
    assert len(made.graph.node) < 6
    assert not conversion.report.lossy
    assert run_onnx(tmp_path / "out", x=ROWS)["y"].shape == (3, WIDE)


def test_an_opset_is_raised_and_never_lowered(converter: Converter, source: Path, tmp_path: Path) -> None:
    raised = {"operation": "opset", "opset": 21}
    conversion = converter.convert(Request(source, "ONNX", "ONNX", options=raised), tmp_path / "out")
    assert_equal_to_source(conversion, "y")
    assert conversion.report.facts["opsets"] == {"ai.onnx": 21}
    with pytest.raises(InvalidField, match="opset: must be a whole number above 17"):
        converter.convert(
            Request(source, "ONNX", "ONNX", options={"operation": "opset", "opset": 13}), tmp_path / "no"
        )


def test_quantising_is_reported_as_lossy_and_never_as_equal(
    converter: Converter, source: Path, tmp_path: Path
) -> None:
    conversion = converter.convert(
        Request(source, "ONNX", "ONNX", options={"operation": "int8"}), tmp_path / "out"
    )
    report = conversion.report
    assert report.lossy
    assert any("not equal to its source" in note for note in report.notes)
    assert report.max_abs_error is not None
    assert report.max_abs_error > 1e-5
    assert (tmp_path / "out" / "model.onnx").stat().st_size < (source / "network.onnx").stat().st_size / 2


def test_a_tolerance_that_is_not_held_fails_the_gate_with_the_numbers(
    converter: Converter, source: Path, tmp_path: Path
) -> None:
    request = Request(source, "ONNX", "ONNX", options={"operation": "int8"}, tolerance=1e-5)
    with pytest.raises(GateFailed, match=r"output y: the error .* times what is allowed") as caught:
        converter.convert(request, tmp_path / "out")
    (output,) = caught.value.report["outputs"]
    assert output["max_abs"] > output["mean_abs"] > 0
    assert output["worst"] in caught.value.report["samples"]
    assert caught.value.report["passed"] is False
    assert not (tmp_path / "out").exists()


def test_equal_seeds_give_equal_reports(converter: Converter, source: Path, tmp_path: Path) -> None:
    told = [
        converter.convert(
            Request(source, "ONNX", "ONNX", options={"operation": "int8"}, seed=seed), tmp_path / str(index)
        ).report.to_json()["outputs"]
        for index, seed in enumerate((7, 7, 8))
    ]
    assert told[0] == told[1] != told[2]


def _escaping(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../secret"), ("offset", "0"), ("length", str(WIDE * WIDE * 4))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _cyclic(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "d"


def _without_inputs(model: onnx.ModelProto) -> None:
    del model.graph.input[:]


def _unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[2].op_type = "Relux"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_escaping, "lies outside of the model"),
        (_cyclic, "onnxruntime does not load network.onnx"),
        (_without_inputs, "onnxruntime does not load network.onnx"),
        (_unknown_operator, "onnxruntime does not load network.onnx"),
    ],
)
def test_a_spoiled_model_is_refused_with_a_sentence(
    converter: Converter, tmp_path: Path, spoil: Callable[[onnx.ModelProto], None], words: str
) -> None:
    model = network()
    spoil(model)
    source = tmp_path / "source"
    source.mkdir()
    (source / "network.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ConversionFailed, match=words):
        converter.convert(Request(source, "ONNX", "ONNX"), tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f"])
def test_what_is_no_onnx_file_is_refused(converter: Converter, tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "network.onnx").write_bytes(content)
    with pytest.raises(ConversionFailed):
        converter.convert(Request(source, "ONNX", "ONNX"), tmp_path / "out")


def test_an_existing_target_and_a_source_without_files_are_refused(
    converter: Converter, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConversionFailed, match=r"one file \*\.onnx; there is none"):
        converter.convert(Request(tmp_path / "empty", "ONNX", "ONNX"), tmp_path / "out")
    with pytest.raises(ConversionFailed, match="is there already"):
        converter.convert(Request(source, "ONNX", "ONNX"), tmp_path / "empty")
