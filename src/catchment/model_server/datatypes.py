"""The protocol's datatypes beside numpy's, ONNX's and the fields of its gRPC messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Datatype:
    """One datatype.

    Attributes:
        name: in the protocol.
        carrier: what arrays of it have here, little-endian; BF16 travels as the bits of uint16.
        onnx: what onnxruntime calls a tensor of it.
        contents: the field of InferTensorContents that holds its values; None: raw bytes only.
        kind: what its values are in JSON.
    """

    name: str
    carrier: np.dtype[Any]
    onnx: str
    contents: str | None
    kind: Literal["bool", "int", "float", "bytes"]


def _datatype(name: str, carrier: str, onnx: str, contents: str | None, kind: Any) -> Datatype:
    return Datatype(name, np.dtype(carrier), f"tensor({onnx})", contents, kind)


DATATYPES = {
    each.name: each
    for each in (
        _datatype("BOOL", "?", "bool", "bool_contents", "bool"),
        _datatype("UINT8", "u1", "uint8", "uint_contents", "int"),
        _datatype("UINT16", "<u2", "uint16", "uint_contents", "int"),
        _datatype("UINT32", "<u4", "uint32", "uint_contents", "int"),
        _datatype("UINT64", "<u8", "uint64", "uint64_contents", "int"),
        _datatype("INT8", "i1", "int8", "int_contents", "int"),
        _datatype("INT16", "<i2", "int16", "int_contents", "int"),
        _datatype("INT32", "<i4", "int32", "int_contents", "int"),
        _datatype("INT64", "<i8", "int64", "int64_contents", "int"),
        _datatype("FP16", "<f2", "float16", None, "float"),
        _datatype("BF16", "<u2", "bfloat16", None, "float"),
        _datatype("FP32", "<f4", "float", "fp32_contents", "float"),
        _datatype("FP64", "<f8", "double", "fp64_contents", "float"),
        _datatype("BYTES", "O", "string", "bytes_contents", "bytes"),
    )
}
BY_ONNX = {each.onnx: each for each in DATATYPES.values()}


def bfloat16_bits(values: Array) -> Array:
    """The nearest BF16 of each float32, ties to even, as uint16 bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype("<u2")


def bfloat16_values(bits: Array) -> Array:
    """The float32 values of BF16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
