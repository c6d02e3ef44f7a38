"""Tensors whose values stand in JSON: flat or nested lists, row by row."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import numpy as np

from catchment.errors import InvalidField
from catchment.model_server.datatypes import Array, Datatype, bfloat16_bits, bfloat16_values
from catchment.model_server.tensors import Tensor

ALLOWED: dict[str, frozenset[type]] = {
    "bool": frozenset({bool}),
    "int": frozenset({int}),
    "float": frozenset({int, float}),
    "bytes": frozenset({str}),
}


def from_values(data: object, datatype: Datatype, shape: tuple[int, ...], where: str) -> Array:
    """The array with these values.

    Raises:
        InvalidField: not as many as the shape asks for, or not of the datatype; nothing is rounded to an
            integer, made from a string or allowed to overflow.
    """
    flat = _flatten(data, shape, f"{where}.data")
    if len(flat) != math.prod(shape):
        raise InvalidField(f"{where}.data", f"has {len(flat)} values, shape {list(shape)} {math.prod(shape)}")
    strange = set(map(type, flat)) - ALLOWED[datatype.kind]
    if strange:
        named = "/".join(sorted(each.__name__ for each in strange))
        raise InvalidField(f"{where}.data", f"holds {named}, which is no {datatype.name}")
    return _array(flat, datatype, f"{where}.data").reshape(shape)


def _array(flat: list[Any], datatype: Datatype, where: str) -> Array:
    if datatype.kind == "bytes":
        array = np.empty(len(flat), object)
        array[:] = flat
        return array
    try:
        if datatype.kind != "float":
            return np.array(flat, datatype.carrier)
        with np.errstate(over="ignore"):
            target = np.dtype(np.float32) if datatype.name == "BF16" else datatype.carrier
            array = np.array(flat, target)
    except OverflowError:
        raise InvalidField(where, f"holds a number that does not fit {datatype.name}") from None
    bits = bfloat16_bits(array) if datatype.name == "BF16" else array
    if not np.isfinite(bfloat16_values(bits) if datatype.name == "BF16" else array).all():
        raise InvalidField(where, f"holds a number that does not fit {datatype.name}")
    return bits


def _flatten(data: object, shape: tuple[int, ...], where: str) -> list[Any]:
    """The values in order; nested lists must have the shape's sizes."""
    if not isinstance(data, list):
        raise InvalidField(where, "must be a list")
    level, flat = 0, data
    while flat and type(flat[0]) is list:
        if level + 1 >= len(shape):
            raise InvalidField(where, f"is nested deeper than shape {list(shape)}")
        width = shape[level + 1]
        if any(type(each) is not list or len(each) != width for each in flat):
            raise InvalidField(where, f"must be flat, or nested as shape {list(shape)} says")
        flat = list(chain.from_iterable(flat))
        level += 1
    return flat


def to_values(tensor: Tensor) -> Array | list[str]:
    """What stands in a reply's JSON. Raises InvalidField for NaN and infinity, which JSON has not."""
    array = tensor.array.ravel()
    if tensor.datatype.kind == "bytes":
        return list(array)
    if tensor.datatype.name == "BF16":
        array = bfloat16_values(array)
    if tensor.datatype.kind == "float" and not np.isfinite(array).all():
        problem = "holds NaN or infinity, which JSON cannot carry; ask for it with binary_data"
        raise InvalidField(f"outputs.{tensor.name}", problem)
    return array
