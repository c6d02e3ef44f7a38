"""Whatever is done to a model's files, a conversion ends with a result or with a sentence."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catchment.errors import ConversionFailed
from catchment.formats.convert.caffe import to_netdef
from catchment.formats.convert.caffe import to_onnx as caffe
from catchment.formats.convert.mxnet import to_onnx as mxnet
from catchment.formats.convert.netdef import to_onnx as netdef
from catchment.formats.convert.report import Inputs, Report
from tests.model_files.caffe_networks import write_network

Convert = Callable[[Path, Path, Inputs | None], Report]
GOLDENS = Path(__file__).with_name("mxnet") / "goldens.npz"
WORDS = [
    b"-1",
    b"0",
    b"99999999999",
    b'"data"',
    b"{",
    b"}",
    b"None",
    b"(",
    b"axis",
    b"nan",
    b"\xff",
    b"true",
    b"1e99",
]


def caffe_files(folder: Path) -> tuple[Inputs, dict[str, Convert]]:
    shape = write_network("inception", folder)
    return {"data": shape}, {"onnx": caffe.convert, "netdef": to_netdef.convert}


def netdef_files(folder: Path) -> tuple[Inputs, dict[str, Convert]]:
    shape = write_network("resnet", folder)
    to_netdef.convert(folder, folder, None)
    for name in ("net.prototxt", "net.caffemodel"):
        (folder / name).unlink()
    return {"data": shape}, {"onnx": netdef.convert}


@cache
def mxnet_golden() -> tuple[bytes, bytes, tuple[int, ...]]:
    """Symbol, params and input shape of the largest network among the goldens."""
    with np.load(GOLDENS) as file:
        symbols = {
            key.partition("/")[0]: file[key].tobytes() for key in file.files if key.endswith("/symbol")
        }
        case = max(symbols, key=lambda each: len(symbols[each]))
        return symbols[case], file[f"{case}/params"].tobytes(), file[f"{case}/in/data"].shape


def mxnet_files(folder: Path) -> tuple[Inputs, dict[str, Convert]]:
    symbol, params, shape = mxnet_golden()
    (folder / "net-symbol.json").write_bytes(symbol)
    (folder / "net.params").write_bytes(params)
    return {"data": shape}, {"onnx": mxnet.convert}


def mutated(data: bytes, draw: Callable[[st.SearchStrategy[int]], int]) -> bytes:
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        way = draw(st.integers(0, 4))
        if way == 0:
            data = data[:at]
        elif way == 1:
            data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
        elif way == 2:
            data = data[:at] + data[at + draw(st.integers(1, 40)) :]
        elif way == 3:
            data = data[:at] + data[at // 2 : at // 2 + 30] + data[at:]
        else:
            word = WORDS[draw(st.integers(0, len(WORDS) - 1))]
            data = data[:at] + word + data[at + len(word) :]
    return data


@pytest.mark.parametrize("make", [caffe_files, netdef_files, mxnet_files])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_mutated_file_gives_a_model_or_a_sentence(
    make: Callable[[Path], tuple[Inputs, dict[str, Convert]]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs, ways = make(folder)
        files = sorted(folder.iterdir())
        chosen = files[data.draw(st.integers(0, len(files) - 1))]
        chosen.write_bytes(mutated(chosen.read_bytes(), data.draw))
        for convert in ways.values():
            try:
                report = convert(folder, folder, inputs)
            except ConversionFailed as problem:
                said = str(problem)
            else:
                said = ", ".join(report.operators)
            assert said.strip()
