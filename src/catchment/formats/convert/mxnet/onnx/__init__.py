"""MXNet's operators as ONNX operators: a function an operator, in one table."""

from __future__ import annotations

from catchment.formats.convert.mxnet.onnx import (
    arithmetic,
    cutting,
    joining,
    normal,
    outputs,
    pointwise,
    recurrent,
    reductions,
    shapes,
    spatial,
)
from catchment.formats.convert.mxnet.onnx.op import Op

OPS: dict[str, Op] = {
    **arithmetic.OPS,
    **cutting.OPS,
    **joining.OPS,
    **normal.OPS,
    **outputs.OPS,
    **pointwise.OPS,
    **recurrent.OPS,
    **reductions.OPS,
    **shapes.OPS,
    **spatial.OPS,
}
"""Operator -> what adds its nodes."""
