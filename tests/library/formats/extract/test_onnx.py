"""ONNX models are read in place, and their values never."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from catchment.errors import ExtractionFailed
from catchment.formats.extract.result import TensorSpec
from catchment.formats.extract.running import Limits, run_extraction
from tests.library.formats.extract import onnx_writing as onnx
from tests.library.formats.extract.conftest import Reader
from tests.library.formats.extract.wire_writing import message, varint


def test_the_signature_has_the_keys_of_the_original(read: Reader) -> None:
    found = read("ONNX", {"model.onnx": onnx.small()})
    assert found.to_json()["signature"] == {
        "inputs": [{"name": "x", "size": [-1, 4], "dType": "float32"}],
        "outputs": [{"name": "y", "size": [-1, 3], "dType": "float32"}],
        "layers": {"Gemm": 1, "Relu": 1},
    }
    assert (found.parameters, found.opset, found.framework_version) == (15, {"ai.onnx": 17}, "hand 1.0")
    assert found.size_bytes == len(onnx.small())
    assert not found.absent


def test_initializers_among_the_inputs_are_no_inputs(read: Reader) -> None:
    assert [each.name for each in read("ONNX", {"model.onnx": onnx.small()}).inputs] == ["x"]


def test_types_are_numpys_names_and_other_types_are_spelled_out(read: Reader) -> None:
    sequence = [(1, "s"), (2, [(4, [(1, [(1, [(1, onnx.INT64)])])])])]
    mapping = [(1, "m"), (2, [(5, [(1, onnx.INT64), (2, [(1, [(1, onnx.FLOAT)])])])])]
    inputs = [
        onnx.value_info("t", onnx.STRING, ()),
        onnx.value_info("h", onnx.BFLOAT16, (2,)),
        sequence,
        mapping,
    ]
    content = onnx.model(onnx.graph([onnx.node("F", ["t"], ["y"])], inputs, [onnx.value_info("y")]))
    found = read("ONNX", {"model.onnx": content})
    assert found.inputs == (
        TensorSpec("t", (), "string"),
        TensorSpec("h", (2,), "bfloat16"),
        TensorSpec("s", None, "sequence(int64)"),
        TensorSpec("m", None, "map(float32)"),
    )
    assert found.inputs[0].to_json() == {"name": "t", "size": [], "dType": "string"}
    assert "'s', 'm'" in found.absent[0]


def test_inner_graphs_and_functions_are_counted_apart(read: Reader) -> None:
    inner = onnx.graph([onnx.node("Mul", ["a"], ["b"])], [], [], [onnx.tensor("c", (5,), bytes(20))])
    outer = onnx.graph([onnx.node("If", ["x"], ["y"], [(1, "then"), (6, inner)])], [onnx.value_info("x")], [])
    found = read("ONNX", {"model.onnx": onnx.model(outer)})
    assert found.layers == {"If": 1}
    assert found.extras["nestedLayers"] == {"Mul": 1}
    assert found.parameters == 5


def test_a_model_without_inputs_is_told_as_such(read: Reader) -> None:
    found = read("ONNX", {"model.onnx": onnx.model(onnx.graph([onnx.node("Const", [], ["y"])], [], []))})
    assert found.absent == ("inputs: the graph has none", "outputs: the graph has none")


def test_external_data_is_named_and_not_opened(read: Reader, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    os.mkfifo(tmp_path / "model" / "w.bin")  # whoever opens it waits for ever
    initializers = [
        onnx.tensor("w", (4, 3), location="w.bin"),
        onnx.tensor("v", (2,), location="parts/gone.bin"),
    ]
    graph = onnx.graph([onnx.node("N", ["x"], ["y"])], [onnx.value_info("x")], [], initializers)
    found = read("ONNX", {"model.onnx": onnx.model(graph)})
    assert found.extras["externalData"] == ["parts/gone.bin", "w.bin"]
    assert found.parameters == 14


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", "c:\\x", ""])
def test_external_data_outside_of_the_folder_is_refused(read: Reader, location: str) -> None:
    graph = onnx.graph([], [], [], [onnx.tensor("w", (4,), location=location)])
    with pytest.raises(ExtractionFailed, match="outside of the model's folder"):
        read("ONNX", {"model.onnx": onnx.model(graph)})


def test_three_gibibytes_of_external_data_cost_nothing(tmp_path: Path) -> None:
    side = 2**14  # 12 matrices of 256 MiB
    initializers = [
        onnx.tensor(f"w{i}", (side, side // 4), location="w.bin", offset=str(i << 28)) for i in range(12)
    ]
    nodes = [onnx.node("MatMul", [f"h{i}", f"w{i}"], [f"h{i + 1}"]) for i in range(12)]
    graph = onnx.graph(nodes, [onnx.value_info("h0")], [onnx.value_info("h12")], initializers)
    (tmp_path / "model.onnx").write_bytes(onnx.model(graph))
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(3 * 2**30)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = run_extraction(tmp_path, "ONNX")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert found.parameters == 12 * 2**26
    assert found.size_bytes > 3 * 2**30
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_two_gibibytes_inside_the_file_are_passed_over(tmp_path: Path) -> None:
    values = 2**31
    begin = message((1, 2**29), (2, onnx.FLOAT), (8, "w")) + b"\x4a" + varint(values)
    begin = b"\x2a" + varint(len(begin) + values) + begin
    rest = message((12, onnx.value_info("y")))
    begin = message((1, 8)) + b"\x3a" + varint(len(begin) + values + len(rest)) + begin
    with (tmp_path / "model.onnx").open("wb") as file:
        file.write(begin)
        file.seek(values, os.SEEK_CUR)  # a hole in the file
        file.write(rest)
    found = run_extraction(tmp_path, "ONNX", Limits(memory_mb=64, cpu_s=1))
    assert found.parameters == 2**29
    assert [each.name for each in found.outputs] == ["y"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (onnx.small()[:-5], "cut off"),
        (message((7, b"\x0a\xff\xff\x03")), "cut off"),
        (message((1, 8)), "holds 0 graphs"),
        (b"\x07", "number 0"),
        (b"\x0b", "kind 3"),
        (b"\x08" + b"\xff" * 11, "does not end"),
        (message((7, 5)), "a number where a message belongs"),
        (onnx.model(onnx.graph([], [], [], [onnx.tensor("w", (4, 3), bytes(40))])), "has 40 bytes"),
        (onnx.model(onnx.graph([], [], [], [onnx.tensor("w", (2**40, 2**40))])), "cannot be"),
        (onnx.model(onnx.graph([], [], [], [onnx.tensor("w", (-3,))])), "negative"),
        (onnx.model(onnx.graph([], [onnx.value_info("x", 999)], [])), "999"),
    ],
)
def test_damaged_and_lying_files_are_refused(read: Reader, content: bytes, complaint: str) -> None:
    with pytest.raises(ExtractionFailed, match=complaint):
        read("ONNX", {"model.onnx": content})


def test_graphs_in_graphs_have_an_end(read: Reader) -> None:
    graph = onnx.graph([], [], [])
    for _ in range(80):
        graph = onnx.graph([onnx.node("If", [], [], [(6, graph)])], [], [])
    with pytest.raises(ExtractionFailed, match="deep"):
        read("ONNX", {"model.onnx": onnx.model(graph)})
