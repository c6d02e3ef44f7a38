"""The interpreter and the ONNX form of NetDef give what Caffe2 gave; make_goldens.py made the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catchment.formats.convert.netdef import interpreter, to_onnx
from catchment.formats.convert.netdef.model import read_model, read_net
from catchment.formats.convert.netdef.onnx import OPS
from catchment.formats.convert.netdef.writer import NetWriter
from tests.library.formats.convert.netdef.formulas import FORMULAS, Formula
from tests.model_files.onnx_runs import assert_close, run_onnx

Golden = dict[str, np.ndarray]
WITHOUT_GOLDEN = {
    # one-, two- and three-dimensional names of what has a golden under its general name
    *(f"{kind}{rank}D" for kind in ("AveragePool", "Conv", "MaxPool") for rank in (1, 2, 3)),
    "CopyCPUToGPU",
    "CopyFromCPUInput",
    "CopyGPUToCPU",
}


def read_goldens() -> dict[str, Golden]:
    found: dict[str, Golden] = {}
    with np.load(Path(__file__).with_name("goldens.npz")) as file:
        for key in file.files:
            case, _, rest = key.partition("/")
            found.setdefault(case, {})[rest] = file[key]
    return found


GOLDENS = read_goldens()


def write(golden: Golden, folder: Path) -> tuple[Golden, Golden]:
    """Write the model; its inputs and outputs."""
    (folder / "init_net.pb").write_bytes(golden["init"].tobytes())
    (folder / "predict_net.pb").write_bytes(golden["predict"].tobytes())
    ins = {key.removeprefix("in/"): value for key, value in golden.items() if key.startswith("in/")}
    return ins, {key.removeprefix("out/"): value for key, value in golden.items() if key.startswith("out/")}


@pytest.mark.parametrize("case", GOLDENS)
def test_a_network_computes_what_caffe2_computed(case: str, tmp_path: Path) -> None:
    feeds, expected = write(GOLDENS[case], tmp_path)
    assert_close(interpreter.run(read_model(tmp_path), feeds), expected)
    to_onnx.convert(tmp_path, tmp_path, {name: value.shape for name, value in feeds.items()})
    assert_close(run_onnx(tmp_path / "model.onnx", feeds), expected)


@pytest.mark.parametrize("case", FORMULAS, ids=lambda case: case.kind)
def test_an_operator_gives_the_numbers_of_its_formula(case: Formula, tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    every = {"data": random.standard_normal((4, 3)).astype(np.float32), "rows": np.array([2, 0, 1], np.int64)}
    expected = {"out": case.expected(every["data"], every["rows"])}
    feeds = {name: every[name] for name in case.inputs}
    net = NetWriter("formula")
    case.build(net)
    net.save(tmp_path, {name: value.shape for name, value in feeds.items()}, ["out"])
    assert_close(interpreter.run(read_model(tmp_path), feeds), expected)
    to_onnx.convert(tmp_path, tmp_path, {name: value.shape for name, value in feeds.items()})
    assert_close(run_onnx(tmp_path / "model.onnx", feeds), expected)


def operators(case: str, folder: Path) -> set[str]:
    write(GOLDENS[case], folder)
    return {op.type for op in read_net(folder / "predict_net.pb").operators}


def test_every_operator_has_a_golden_or_a_formula(tmp_path: Path) -> None:
    ran = set().union(*(operators(case, tmp_path) for case in GOLDENS))
    assert set(OPS) - ran - WITHOUT_GOLDEN == {case.kind for case in FORMULAS} - ran
    assert set(OPS) == set(interpreter.OPERATORS)
