"""Caffe2's operators as ONNX operators: a function an operator, in one table."""

from __future__ import annotations

from catchment.formats.convert.netdef.onnx import arithmetic, normal, reductions, shapes, spatial
from catchment.formats.convert.netdef.onnx.op import Op

OPS: dict[str, Op] = {**arithmetic.OPS, **normal.OPS, **reductions.OPS, **shapes.OPS, **spatial.OPS}
"""Operator -> what adds its nodes."""
