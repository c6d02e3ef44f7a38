"""bf16: every element rounded once to bfloat16, to nearest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from catchment.compression.codec import Codec
from catchment.errors import BadTensors
from catchment.models.signature import Array, Signature, TensorInfo
from catchment.models.tensors import TensorFile
from catchment.models.updates import blocks

_EXPONENT = np.uint16(0x7F80)


class Bf16(Codec):
    """8 bits of precision in half of float32's bytes: a relative error of at most 2^-8 an element."""

    def stored(self, name: str, info: TensorInfo) -> Signature:
        """The tensor itself, as BF16."""
        return {name: TensorInfo("BF16", info.shape)}

    def encode(self, name: str, values: Array, generator: np.random.Generator) -> Mapping[str, Array]:
        """The values; the writer rounds them."""
        return {name: values}

    def check(self, file: TensorFile, name: str, info: TensorInfo) -> None:
        """Refuse NaN and infinite values, which have all bits of the exponent set."""
        bits = file.array(name).reshape(-1)
        for start, stop in blocks(bits.size):
            if ((bits[start:stop] & _EXPONENT) == _EXPONENT).any():
                raise BadTensors(f"tensor '{name}' holds NaN or infinite values")

    def block(self, file: TensorFile, name: str, info: TensorInfo, start: int, stop: int) -> Array:
        """The rounded values."""
        return file.block(name, start, stop, info.compute_dtype)
