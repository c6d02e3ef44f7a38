"""topk: the largest elements of each tensor; the rest waits for the next round (error feedback)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from catchment.compression.codec import Codec
from catchment.errors import BadTensors
from catchment.models.signature import Array, Signature, TensorInfo, dtype_name
from catchment.models.tensors import TensorFile
from catchment.models.updates import all_finite

INDICES = "@indices/"
VALUES = "@values/"


class TopK(Codec):
    """Sparsification with error feedback (Stich et al. 2018; Lin et al. 2018).

    Of a tensor of n elements the `ceil(ratio * n)` of largest absolute value are sent, exactly, with their
    places. What is left out is remembered at the site and added to its next update.
    """

    keeps_residual = True

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio

    def stored(self, name: str, info: TensorInfo) -> Signature:
        """Places in rising order, and the values there."""
        kept = (self._kept(info.num_elements),)
        places = "U32" if info.num_elements <= 2**32 else "U64"
        return {
            INDICES + name: TensorInfo(places, kept),
            VALUES + name: TensorInfo(dtype_name(info.compute_dtype), kept),
        }

    def encode(self, name: str, values: Array, generator: np.random.Generator) -> Mapping[str, Array]:
        """Places and values of the largest elements."""
        kept = self._kept(values.size)
        if kept == values.size:
            places = np.arange(kept)
        else:
            places = np.sort(np.argpartition(np.abs(values), values.size - kept)[values.size - kept :])
        wide = places.astype(np.uint64)
        return {INDICES + name: wide, VALUES + name: values[places]}

    def left_out(self, name: str, values: Array, stored: Mapping[str, Array]) -> Array:
        """The values, with zero where they are sent."""
        rest = values.copy()
        rest[stored[INDICES + name]] = 0
        return rest

    def check(self, file: TensorFile, name: str, info: TensorInfo) -> None:
        """Refuse places out of range, out of order or given twice, and values that are not finite."""
        places = file.array(INDICES + name)
        if (places[1:] <= places[:-1]).any() or places[-1] >= info.num_elements:
            raise BadTensors(
                f"tensor '{name}': the places of its values must rise and lie below {info.num_elements}"
            )
        if not all_finite(file.array(VALUES + name)):
            raise BadTensors(f"tensor '{name}' holds NaN or infinite values")

    def block(self, file: TensorFile, name: str, info: TensorInfo, start: int, stop: int) -> Array:
        """The values at their places, zero elsewhere."""
        places = file.array(INDICES + name)
        low, high = np.searchsorted(places, np.array([start, stop], np.uint64))
        dense = np.zeros(stop - start, info.compute_dtype)
        dense[places[low:high] - places.dtype.type(start)] = file.array(VALUES + name)[low:high]
        return dense

    def _kept(self, num_elements: int) -> int:
        return min(num_elements, math.ceil(self._ratio * num_elements))
