"""MXNet files of every version are read; broken ones, and what cannot be converted, are refused in words."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catchment.errors import ConversionFailed
from catchment.formats.convert.mxnet import to_onnx
from catchment.formats.convert.mxnet.params import read_params
from tests.model_files.onnx_runs import assert_close, run_onnx

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def array(values: np.ndarray, version: int, *, storage: int = 0) -> bytes:
    """An NDArray as the versions 0 to 3 of the format write it."""
    magic = [
        b"",
        struct.pack("<I", 0xF993FAC8),
        struct.pack("<Ii", 0xF993FAC9, storage),
        struct.pack("<Ii", 0xF993FACA, storage),
    ]
    dims = struct.pack(f"<I{values.ndim}{'I' if version == 0 else 'q'}", values.ndim, *values.shape)
    flag = {"float32": 0, "float64": 1, "float16": 2, "int32": 4}[values.dtype.name]
    return magic[version] + dims + struct.pack("<3i", 1, 0, flag) + values.tobytes()


def params(arrays: dict[str, bytes]) -> bytes:
    named = b"".join(struct.pack("<Q", len(name)) + name.encode() for name in arrays)
    head = struct.pack("<3Q", 0x112, 0, len(arrays))
    return head + b"".join(arrays.values()) + struct.pack("<Q", len(arrays)) + named


def node(op: str, name: str, inputs: list[list[int]], **attrs: str) -> dict[str, Any]:
    return {"op": op, "name": name, "inputs": inputs, "attrs": attrs}


NODES = [
    node("null", "data", []),
    node("null", "w", []),
    node("FullyConnected", "fc", [[0, 0, 0], [1, 0, 0]], num_hidden="2", no_bias="True"),
]


def write(folder: Path, nodes: list[dict[str, Any]], weight: bytes = array(WEIGHT, 2)) -> None:
    (folder / "m-symbol.json").write_text(json.dumps({"nodes": nodes, "heads": [[len(nodes) - 1, 0, 0]]}))
    (folder / "m-0000.params").write_bytes(params({"arg:w": weight}))


@pytest.mark.parametrize("version", range(4))
def test_every_version_of_the_file_is_read(version: int, tmp_path: Path) -> None:
    write(tmp_path, NODES, array(WEIGHT, version))
    np.testing.assert_array_equal(read_params(tmp_path / "m-0000.params")["w"], WEIGHT)
    to_onnx.convert(tmp_path, tmp_path, {"data": (-1, 3)})
    data = np.ones((4, 3), np.float32)
    assert_close(run_onnx(tmp_path / "model.onnx", {"data": data}), {"fc_output": data @ WEIGHT.T})


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_precisions_become_single_with_a_warning(dtype: str, tmp_path: Path) -> None:
    write(tmp_path, NODES, array(WEIGHT.astype(dtype), 2))
    report = to_onnx.convert(tmp_path, tmp_path, {"data": (1, 3)})
    assert dtype in report.warnings[0]
    assert run_onnx(tmp_path / "model.onnx", {"data": np.ones((1, 3), np.float32)})["fc_output"].tolist() == [
        [3, 12]
    ]


@pytest.mark.parametrize("key", ["attr", "param"])
def test_attributes_of_older_files_are_read(key: str, tmp_path: Path) -> None:
    write(tmp_path, [*NODES[:2], {key if k == "attrs" else k: v for k, v in NODES[2].items()}])
    to_onnx.convert(tmp_path, tmp_path, {"data": (1, 3)})


def test_a_sparse_array_is_refused(tmp_path: Path) -> None:
    write(tmp_path, NODES, array(WEIGHT, 2, storage=1))
    with pytest.raises(ConversionFailed, match="sparse"):
        to_onnx.convert(tmp_path, tmp_path, {"data": (1, 3)})


def test_cut_and_lying_params_are_refused(tmp_path: Path) -> None:
    write(tmp_path, NODES)
    whole = (tmp_path / "m-0000.params").read_bytes()
    giant = (
        struct.pack("<Ii", 0xF993FAC9, 0) + struct.pack("<I2q", 2, 2**40, 2**40) + struct.pack("<3i", 1, 0, 0)
    )
    deep = struct.pack("<I", 99)
    for data in (b"", whole[:40], whole[:-3], b"\0" * 50, params({"arg:w": giant}), params({"arg:w": deep})):
        (tmp_path / "m-0000.params").write_bytes(data)
        with pytest.raises(ConversionFailed, match=r"params file"):
            to_onnx.convert(tmp_path, tmp_path, {"data": (1, 3)})


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        (
            [*NODES, node("Frob", "f", [[2, 0, 0]]), node("Twist", "t", [[3, 0, 0]])],
            r"Frob \(f\); Twist \(t\)",
        ),
        ([NODES[0], node("relu", "a", [[2, 0, 0]]), node("relu", "b", [[1, 0, 0]])], "no circles"),
        ([*NODES[:2], node("FullyConnected", "fc", [[0, 0, 0]], no_bias="True")], "fc"),
        (
            [*NODES[:2], node("reshape", "r", [[0, 0, 0]], shape="(1" + "1" * 40 + "x)")],
            "numbers in brackets",
        ),
        ([*NODES[:2], node("Convolution", "c", [[0, 0, 0], [1, 0, 0]], num_filter="2")], "kernel is missing"),
        ([*NODES[:2], node("Activation", "c", [[0, 0, 0]], act_type="odd")], "act_type odd"),
    ],
)
def test_a_bad_symbol_is_refused(nodes: list[dict[str, Any]], says: str, tmp_path: Path) -> None:
    write(tmp_path, nodes)
    with pytest.raises(ConversionFailed, match=says):
        to_onnx.convert(tmp_path, tmp_path, {"data": (1, 3)})


def test_a_missing_shape_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path, NODES)
    with pytest.raises(ConversionFailed, match=r"no shape for the input data; give it as inputs"):
        to_onnx.convert(tmp_path, tmp_path, None)


def test_a_target_shape_of_a_deconvolution_is_reached(tmp_path: Path) -> None:
    import torch

    weight = np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float32)
    attrs = {"kernel": "(3, 3)", "stride": "(2, 2)", "num_filter": "3", "target_shape": "(10, 8)"}
    write(
        tmp_path, [*NODES[:2], node("Deconvolution", "d", [[0, 0, 0], [1, 0, 0]], **attrs)], array(weight, 2)
    )
    to_onnx.convert(tmp_path, tmp_path, {"data": (1, 2, 5, 4)})
    data = np.random.default_rng(1).standard_normal((1, 2, 5, 4)).astype(np.float32)
    full = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(data), torch.from_numpy(weight), stride=2, padding=1, output_padding=1
    )
    assert_close(run_onnx(tmp_path / "model.onnx", {"data": data}), {"d_output": full.numpy()})
