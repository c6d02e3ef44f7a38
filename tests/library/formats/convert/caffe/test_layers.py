"""Each Caffe layer gives the numbers of its documented formula when its ONNX form runs in onnxruntime."""

from __future__ import annotations

from pathlib import Path

import pytest

from catchment.formats.convert.caffe import to_onnx
from catchment.formats.convert.caffe.onnx import OPS
from tests.library.formats.convert.caffe.layer_cases import CASES, Case, write_case
from tests.model_files.onnx_runs import assert_close, run_onnx


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_layer_gives_the_numbers_of_its_formula(case: Case, tmp_path: Path) -> None:
    feeds, expected = write_case(case, tmp_path)
    to_onnx.convert(tmp_path, tmp_path, None)
    assert_close(run_onnx(tmp_path / "model.onnx", feeds), expected)


def test_every_layer_has_a_case() -> None:
    assert {case.kind for case in CASES} == set(OPS)
