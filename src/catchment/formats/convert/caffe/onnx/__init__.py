"""Caffe's layers as ONNX operators: a function a layer type, in one table."""

from __future__ import annotations

from catchment.formats.convert.caffe.onnx import arithmetic, normal, recurrent, reductions, shapes, spatial
from catchment.formats.convert.caffe.onnx.op import Op

OPS: dict[str, Op] = {
    **arithmetic.OPS,
    **normal.OPS,
    **recurrent.OPS,
    **reductions.OPS,
    **shapes.OPS,
    **spatial.OPS,
}
"""Layer type -> what adds its nodes."""
