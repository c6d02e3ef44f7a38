"""Caffe2's operators that make constant tensors."""

from __future__ import annotations

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.dimensions import checked_size, shaped
from catchment.formats.convert.netdef.arguments import Arguments

DTYPES = {1: "float32", 2: "int32", 3: "uint8", 5: "bool", 6: "uint8", 7: "int8", 10: "int64", 13: "float64"}
"""TensorProto.DataType of caffe2.proto."""

FILLS = {
    "ConstantFill": "",
    "GivenTensorBoolFill": "bool",
    "GivenTensorFill": "float32",
    "GivenTensorInt64Fill": "int64",
    "GivenTensorIntFill": "int32",
}
"""Operator -> its element type; ConstantFill names it itself."""

NOTHING = {"CreateBlob"}
"""What makes an empty blob, for inputs."""


def fill(kind: str, arguments: Arguments, name: str) -> np.ndarray:
    """The tensor that an operator makes.

    Raises:
        ConversionFailed: there are more or fewer values than the shape needs, or the type is not known.
    """
    shape = arguments.wholes("shape")
    if kind == "ConstantFill":
        dtype = DTYPES.get(arguments.whole("dtype", 1))
        if dtype is None or arguments.has("input_as_shape"):
            raise ConversionFailed(f"the constant '{name}' has an unknown type, or a shape that is computed")
        checked_size(shape, f"'{name}'", 8)
        whole = dtype != "float32"
        value = arguments.whole("value", 0) if whole else arguments.number("value", 0.0)
        return np.full(shape, value, dtype)
    values = arguments.floats("values")
    if kind != "GivenTensorFill":
        values = np.array(arguments.wholes("values"), FILLS[kind])
    return shaped(values, shape, f"'{name}'")
