"""NetDef networks on arrays, to compare converted models with, for want of a Caffe2 runtime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.arrays import Array
from catchment.formats.convert.netdef.computed import COMPUTED
from catchment.formats.convert.netdef.model import Model, place
from catchment.formats.convert.netdef.moved import MOVED
from catchment.formats.convert.steps import refuse_unsupported, step

OPERATORS = {**COMPUTED, **MOVED}
"""Operator -> what computes its outputs."""


def run(model: Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The network's outputs for these inputs.

    Raises:
        ConversionFailed: an operator is not known, an input is not given, or shapes do not fit.
    """
    refuse_unsupported([(place(op), op.type) for op in model.net.operators], OPERATORS, "operator")
    missing = [name for name in model.inputs if name not in feeds]
    if missing:
        raise ConversionFailed(f"no values are given for the input {', '.join(missing)}")
    blobs: dict[str, Array] = {**model.weights, **feeds}
    for op in model.net.operators:
        with step("operator", place(op), op.type), np.errstate(all="ignore"):
            made = OPERATORS[op.type](op, [blobs[name] for name in op.inputs])
            for name, values in zip(op.outputs, made, strict=False):
                found = np.asarray(values)
                blobs[name] = found.astype(np.float32) if found.dtype == np.float64 else found
    return {name: blobs[name] for name in model.outputs}
