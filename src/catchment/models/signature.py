"""The shape of a model's weights: names, dtypes and shapes, without the values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catchment.errors import BadTensors

Array = NDArray[Any]

STORED_DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
"""safetensors' dtype name -> the numpy dtype of the stored elements; BF16 is read as its bits."""

_NAMES = {stored.newbyteorder("="): name for name, stored in STORED_DTYPES.items() if name != "BF16"}
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Dtype, by safetensors' name, and shape of one tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Size of the values in a file."""
        return self.num_elements * STORED_DTYPES[self.dtype].itemsize

    @property
    def is_float(self) -> bool:
        """Whether a client update holds differences of this tensor (True) or values."""
        return self.dtype in _FLOATS

    @property
    def compute_dtype(self) -> np.dtype[Any]:
        """Native numpy dtype that holds each value exactly; float32 for F16 and BF16."""
        if self.dtype in ("F16", "BF16"):
            return np.dtype(np.float32)
        return STORED_DTYPES[self.dtype].newbyteorder("=")

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


Signature = dict[str, TensorInfo]
"""Tensor name -> TensorInfo, in the order of the file."""


def dtype_name(dtype: np.dtype[Any]) -> str:
    """safetensors' name of a numpy dtype of any byte order.

    Raises:
        BadTensors: complex, text, object and other dtypes that no tensor file holds.
    """
    name = _NAMES.get(dtype.newbyteorder("="))
    if name is None:
        raise BadTensors(f"dtype {dtype} cannot be stored; use one of {', '.join(sorted(STORED_DTYPES))}")
    return name


def info_of(name: str, array: Array) -> TensorInfo:
    """The TensorInfo under which `array` is stored as tensor `name`.

    Raises:
        BadTensors: the array's dtype cannot be stored; names the tensor.
    """
    try:
        return TensorInfo(dtype_name(array.dtype), array.shape)
    except BadTensors as error:
        raise BadTensors(f"tensor '{name}': {error}") from None


def update_signature(weights: Signature) -> Signature:
    """What a client update to `weights` must look like.

    Float tensors are differences (F32 for F16 and BF16 weights), integers and booleans are values.
    """
    return {
        name: TensorInfo("F32", info.shape) if info.dtype in ("F16", "BF16") else info
        for name, info in weights.items()
    }
