"""Casting values to the elements that a tensor file stores, rounding once, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from catchment.errors import BadTensors
from catchment.models.signature import STORED_DTYPES, Array, TensorInfo

_BF16_QUIET_NAN = np.uint32(0x0040)


def bfloat16_bits(values: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """The bits of `values` rounded once to bfloat16, to nearest, ties to even."""
    single = values.astype(np.float32) if values.dtype.itemsize <= 4 else _round_to_odd(values)
    bits = np.ascontiguousarray(single).view(np.uint32).reshape(values.shape)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1)))) >> 16
    quiet = (bits >> 16) | _BF16_QUIET_NAN
    return np.where(np.isnan(single), quiet, rounded).astype(np.uint16)


def bfloat16_values(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The float32 values of bfloat16 bits; exact."""
    wide = bits.astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)


def stored_values(name: str, values: Array, info: TensorInfo) -> Array:
    """`values` as elements of a file's tensor `name`, cast once; no copy where none is needed.

    Bits of bfloat16 (uint16) are taken for a BF16 tensor as they are.

    Raises:
        BadTensors: kinds differ, or a finite value does not fit.
    """
    stored = STORED_DTYPES[info.dtype]
    if info.dtype == "BF16" and values.dtype == np.uint16:
        return values.astype(stored, copy=False)
    if values.dtype.kind not in ("f" if info.is_float else "iub"):
        raise BadTensors(f"tensor '{name}': values of dtype {values.dtype} do not make a {info.dtype} tensor")
    if info.dtype == "BF16":
        bits = bfloat16_bits(values)
        overflown = np.isinf(bfloat16_values(bits)) & np.isfinite(values)
        return _fitting(name, info, bits, fits=not overflown.any())
    if info.is_float:
        return _cast_floats(name, values, info)
    if np.can_cast(values.dtype, stored, casting="safe"):
        return values.astype(stored, copy=False)
    cast = values.astype(stored)
    return _fitting(name, info, cast, fits=bool(_same_integers(cast, values)))


def _same_integers(cast: Array, values: Array) -> bool:
    # Signs are compared too: -1 and 2**64 - 1 have the same bits.
    return bool(np.array_equal(cast.astype(values.dtype), values) and np.array_equal(cast < 0, values < 0))


def _cast_floats(name: str, values: Array, info: TensorInfo) -> Array:
    stored = STORED_DTYPES[info.dtype]
    if values.dtype.itemsize <= stored.itemsize:
        return values.astype(stored, copy=False)
    try:
        with np.errstate(over="raise", under="ignore"):
            return values.astype(stored)
    except FloatingPointError:
        return _fitting(name, info, values, fits=False)


def _fitting(name: str, info: TensorInfo, cast: Array, *, fits: bool) -> Array:
    if not fits:
        raise BadTensors(f"tensor '{name}': a value does not fit into {info.dtype}")
    return cast


def _round_to_odd(values: Array) -> NDArray[np.float32]:
    """float64 to float32 so that a second rounding, to fewer bits, gives what one rounding would.

    An inexact result is truncated and its last bit set (rounding to odd).
    """
    with np.errstate(over="ignore", under="ignore"):
        single = np.atleast_1d(values.astype(np.float32))
    back = single.astype(np.float64)
    wide = np.atleast_1d(values)
    inexact = (back != wide) & ~np.isnan(back)
    bits = single.view(np.uint32)
    bits[inexact & (np.abs(back) > np.abs(wide))] -= np.uint32(1)
    bits[inexact] |= np.uint32(1)
    return single.reshape(values.shape)
