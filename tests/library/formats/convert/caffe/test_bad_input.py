"""Caffe files that are broken, lie, or ask for what cannot be done are refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catchment.errors import ConversionFailed
from catchment.formats.convert.caffe import to_onnx
from catchment.formats.convert.caffe.prototxt import parse
from tests.model_files.caffe import caffemodel, write
from tests.model_files.caffe_networks import write_network
from tests.model_files.onnx_runs import run_onnx

IP = """layer { name: "ip" type: "InnerProduct" bottom: "data" top: "out"
inner_product_param { num_output: 2 } }"""
BLOBS = {"ip": [np.ones((2, 3), np.float32), np.zeros(2, np.float32)]}


def layer(kind: str, bottom: str = "data", top: str = "out", rest: str = "") -> str:
    return f'layer {{ name: "{top}" type: "{kind}" bottom: "{bottom}" top: "{top}" {rest} }}'


def refused(folder: Path, says: str, layers: str = IP, shape: tuple[int, ...] = (1, 3)) -> None:
    write(folder, layers, {"data": shape}, BLOBS)
    with pytest.raises(ConversionFailed, match=says):
        to_onnx.convert(folder, folder, None)
    assert not (folder / "model.onnx").exists()


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (layer("Frobnicate") + layer("Twist", "out", "more"), r"layers: Frobnicate \(out\); Twist \(more\)"),
        (
            layer("ReLU", "later") + layer("ReLU", "out", "later"),
            "reads 'later', which no layer before it makes",
        ),
        (IP.replace('"ip"', '"other"'), "0 blobs for the layer 'other'"),
        (IP.replace("2", "7"), r"has 6 values, the shape \[7, 3\] needs 21"),
        (IP.replace("num_output: 2", ""), "num_output is missing"),
        (IP.replace("num_output: 2", 'num_output: "two"'), "num_output is 'two', another type"),
        ("layer { name: 'x' top: 't' }", "has no type"),
        ("layers { layer { name: 'x' type: 'conv' } }", "first format"),
        (layer("ReLU")[:-1], "the file ends before"),
        ("layer { type: $ }", "line 3"),
        ("layer " * 3, "expected"),
        ("a {" * 60 + "}" * 60, "nested deeper"),
        (layer("Pooling", rest="pooling_param { pool: STOCHASTIC kernel_size: 2 }"), "STOCHASTIC"),
        (layer("Slice", rest="slice_param { slice_point: 9 }"), "do not cut"),
        (layer("Softmax", rest="softmax_param { axis: 7 }"), "dimension 7 of 2"),
        (layer("Reshape", rest="reshape_param { shape { dim: 5 dim: -1 } }"), "cannot become"),
    ],
)
def test_a_bad_drawing_is_refused(layers: str, says: str, tmp_path: Path) -> None:
    refused(tmp_path, says, layers)


def test_sizes_that_no_computer_has_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, "beyond 2 GiB", shape=(1, 2**30))
    refused(tmp_path, "dimensions are", shape=(1, 2**40))
    refused(tmp_path, "at least 1", shape=(0, 3))


def test_a_missing_shape_is_asked_for_and_a_given_one_is_taken(tmp_path: Path) -> None:
    write(tmp_path, 'input: "data"' + IP, {}, BLOBS)
    with pytest.raises(ConversionFailed, match=r'no shape for the input data; give it as inputs: \{"data"'):
        to_onnx.convert(tmp_path, tmp_path, None)
    with pytest.raises(
        ConversionFailed, match=r"inputs names \['date'\], but the model's inputs are \['data'\]"
    ):
        to_onnx.convert(tmp_path, tmp_path, {"date": (1, 3)})
    with pytest.raises(ConversionFailed, match=r"inputs.data is \[1, -1\]"):
        to_onnx.convert(tmp_path, tmp_path, {"data": (1, -1)})
    to_onnx.convert(tmp_path, tmp_path, {"data": (4, 3)})
    assert (
        run_onnx(tmp_path / "model.onnx", {"data": np.ones((4, 3), np.float32)})["out"].tolist()
        == [[3, 3]] * 4
    )


def test_a_data_source_becomes_an_input_and_a_loss_is_dropped(tmp_path: Path) -> None:
    source = 'layer { name: "source" type: "Data" top: "data" top: "label" }'
    train = 'layer { name: "n" type: "Nonsense" top: "n" include { phase: TRAIN } }'
    loss = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "out" bottom: "label" top: "loss" }'
    write(tmp_path, source + train + IP + loss, {}, BLOBS)
    report = to_onnx.convert(tmp_path, tmp_path, {"data": (1, 3)})
    assert [warning.split(" was ")[0] for warning in report.warnings] == [
        "the data source 'source' (Data)",
        "the layer 'loss' (SoftmaxWithLoss)",
    ]
    assert set(run_onnx(tmp_path / "model.onnx", {"data": np.ones((1, 3), np.float32)})) == {"out"}


def test_the_second_format_and_comments_are_read(tmp_path: Path) -> None:
    old = 'layers { # old\n name: "ip" type: INNER_PRODUCT bottom: "data" top: "out" blobs_lr: 1\n'
    write(tmp_path, old + "inner_product_param < num_output: 2 > }", {"data": (1, 3)}, BLOBS, legacy=True)
    to_onnx.convert(tmp_path, tmp_path, None)
    assert run_onnx(tmp_path / "model.onnx", {"data": np.ones((1, 3), np.float32)})["out"].tolist() == [
        [3, 3]
    ]


def test_a_lying_or_cut_caffemodel_is_refused(tmp_path: Path) -> None:
    write(tmp_path, IP, {"data": (1, 3)}, BLOBS)
    whole = caffemodel(BLOBS)
    for data in (
        b"",
        whole[:-5],
        b"\x0a\xff\xff\x7f",
        b"{}",
        whole.replace(b"\x08\x02\x08\x03", b"\x08\x02\x08\x04"),
    ):
        (tmp_path / "net.caffemodel").write_bytes(data)
        with pytest.raises(ConversionFailed, match=r"caffemodel|blob"):
            to_onnx.convert(tmp_path, tmp_path, None)


def test_exactly_one_of_each_file_is_expected(tmp_path: Path) -> None:
    write_network("lenet", tmp_path)
    (tmp_path / "second.prototxt").write_text("")
    with pytest.raises(ConversionFailed, match=r"found: net\.prototxt, second\.prototxt"):
        to_onnx.convert(tmp_path, tmp_path, None)


def test_texts_numbers_and_lists_of_the_text_format() -> None:
    found = parse('a: "x\\n" "y" b: [1, -2] c: 1.5e3 d: 0x10 e: true; f { g: .5f }, f: { h: -inf }')
    assert found == {
        "a": ["x\ny"],
        "b": [1, -2],
        "c": [1500.0],
        "d": [16],
        "e": ["true"],
        "f": [{"g": [0.5]}, {"h": [float("-inf")]}],
    }
