"""Caffe's layers as Caffe2 operators: a function a layer type, in one table."""

from __future__ import annotations

from catchment.formats.convert.caffe.netdef import arithmetic, structure
from catchment.formats.convert.caffe.netdef.op import Op

OPS: dict[str, Op] = {**arithmetic.OPS, **structure.OPS}
"""Layer type -> what writes its operators."""
