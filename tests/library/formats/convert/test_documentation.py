"""Every operator that is converted stands in docs/conversion-ops.md."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from catchment.formats.convert.caffe.netdef import OPS as CAFFE_TO_NETDEF
from catchment.formats.convert.caffe.onnx import OPS as CAFFE
from catchment.formats.convert.mxnet.onnx import OPS as MXNET
from catchment.formats.convert.netdef.onnx import OPS as NETDEF
from tests.conftest import ROOT

PARTS = re.split(r"^## ", (ROOT / "docs" / "conversion-ops.md").read_text(), flags=re.MULTILINE)
# Spellings of two-input operators, which the page names by their patterns.
PATTERNS = re.compile(
    r"(elemwise|broadcast)_\w+|_[a-zA-Z_]+(_scalar|Scalar)|_[A-Za-z]+(_[A-Za-z]+)?|linalg_gemm2"
)


@pytest.mark.parametrize(
    ("title", "ops"),
    [("CaffeModel", CAFFE), ("CaffeModel", CAFFE_TO_NETDEF), ("NetDef", NETDEF), ("MXNetParams", MXNET)],
)
def test_every_operator_is_listed(title: str, ops: Mapping[str, object]) -> None:
    (part,) = (each for each in PARTS if each.startswith(title))
    words = set(
        re.findall(r"\w+", " ".join(line.split("|")[1] for line in part.splitlines() if line[:1] == "|"))
    )
    missing = [
        op for op in ops if op not in words and not (title == "MXNetParams" and PATTERNS.fullmatch(op))
    ]
    assert missing == []
