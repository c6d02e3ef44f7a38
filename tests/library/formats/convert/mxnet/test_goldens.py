"""MXNet models score in onnxruntime as they did in mxnet 1.9.1; make_goldens.py made the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from catchment.formats.convert.mxnet import to_onnx
from catchment.formats.convert.mxnet.onnx import OPS
from tests.model_files.onnx_runs import assert_close, run_onnx

Golden = dict[str, np.ndarray]


def read_goldens() -> dict[str, Golden]:
    found: dict[str, Golden] = {}
    with np.load(Path(__file__).with_name("goldens.npz")) as file:
        for key in file.files:
            case, _, rest = key.partition("/")
            found.setdefault(case, {})[rest] = file[key]
    return found


GOLDENS = read_goldens()


def operators(golden: Golden) -> list[str]:
    nodes = json.loads(golden["symbol"].tobytes())["nodes"]
    return [node["op"] for node in nodes if node["op"] != "null"]


def write(golden: Golden, folder: Path) -> dict[str, np.ndarray]:
    """Write the model; its inputs."""
    (folder / "net-symbol.json").write_bytes(golden["symbol"].tobytes())
    (folder / "net-0000.params").write_bytes(golden["params"].tobytes())
    return {key.removeprefix("in/"): value for key, value in golden.items() if key.startswith("in/")}


@pytest.mark.parametrize("case", GOLDENS, ids=lambda case: f"{case} {operators(GOLDENS[case])[-1]}")
def test_a_model_scores_as_in_mxnet(case: str, tmp_path: Path) -> None:
    golden = GOLDENS[case]
    feeds = write(golden, tmp_path)
    expected = {key.removeprefix("out/"): value for key, value in golden.items() if key.startswith("out/")}
    to_onnx.convert(tmp_path, tmp_path, {name: value.shape for name, value in feeds.items()})
    assert_close(run_onnx(tmp_path / "model.onnx", feeds), expected)


def test_every_operator_has_a_golden() -> None:
    ran = {op for golden in GOLDENS.values() for op in operators(golden)}
    ways = {OPS[op] for op in ran}
    assert sorted(op for op in OPS if op not in ran and OPS[op] not in ways) == [], (
        "aliases share their function"
    )
