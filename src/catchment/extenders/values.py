"""Python values with arrays in them as one tensor file: how results go from one child to the next."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from catchment.errors import BadTensors
from catchment.models.signature import Array
from catchment.models.tensors import TensorFile, write_tensors

_ARRAY = "$array"
_KEY = "value"


def save(value: Any, path: Path) -> None:
    """Write None, numbers, text, lists, dicts with text as keys, and numpy arrays.

    Raises:
        BadTensors: something else is in it, or a number that JSON does not know; says where.
    """
    arrays: dict[str, Array] = {}
    encoded = _encode("the result", value, arrays)
    write_tensors(path, arrays, {_KEY: json.dumps(encoded, allow_nan=True)})


def plain(value: Any) -> Any:
    """The same values as JSON has them: arrays as lists, numbers finite.

    Raises:
        BadTensors: something has no such form; says where.
    """
    return _encode("the result", value, None)


def load(path: Path) -> Any:
    """What `save` wrote, tuples as lists. Raises BadTensors."""
    with TensorFile.open(path, copy_on_write=True) as file:
        return _decode(json.loads(file.metadata[_KEY]), file)


def _encode(where: str, value: Any, arrays: dict[str, Array] | None) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    match value:
        case float() if arrays is None and not math.isfinite(value):
            raise BadTensors(f"{where} is {value}")
        case None | bool() | int() | float() | str():
            return value
        case dict():
            for key in value:
                if not isinstance(key, str) or key == _ARRAY:
                    raise BadTensors(f"{where} has the key {key!r}; keys must be text")
            return {key: _encode(f"{where}[{key!r}]", item, arrays) for key, item in value.items()}
        case list() | tuple():
            return [_encode(f"{where}[{index}]", item, arrays) for index, item in enumerate(value)]
        case np.ndarray():
            if arrays is None:
                return _encode(where, value.tolist(), None)
            name = str(len(arrays))
            arrays[name] = value
            return {_ARRAY: name}
        case _:
            raise BadTensors(
                f"{where} is a {type(value).__name__}; only numbers, text, lists, dicts and numpy arrays "
                "can be handed on"
            )


def _decode(value: Any, file: TensorFile) -> Any:
    match value:
        case {"$array": name}:
            return file.array(name)
        case dict():
            return {key: _decode(item, file) for key, item in value.items()}
        case list():
            return [_decode(item, file) for item in value]
        case _:
            return value
