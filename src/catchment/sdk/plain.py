"""Values of scripts as plain JSON: numbers of numpy and of frameworks become Python's."""

from __future__ import annotations

import math
from typing import Any

from catchment.errors import SdkError


def plain(name: str, value: Any) -> Any:
    """`value` made of dict, list, str, int, float, bool and None only.

    Arrays and tensors become nested lists, or a number where they hold one.

    Raises:
        SdkError: JSON has no form for it; names `name`.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return _builtin(value)
    if isinstance(value, dict):
        return {_key(name, key): plain(f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(name, item) for item in value]
    converted = _from_framework(value)
    if converted is None:
        raise SdkError(f"'{name}' is a {type(value).__name__}, which JSON cannot hold")
    return plain(name, converted)


def is_finite(value: Any) -> bool:
    """Whether no number in the plain `value` is NaN or infinite."""
    if isinstance(value, dict):
        return all(is_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _builtin(value: Any) -> Any:
    # numpy's float64 is a float, and an IntEnum an int; what is stored is the plain number.
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return None


def _key(name: str, key: Any) -> str:
    if not isinstance(key, str):
        raise SdkError(f"'{name}' has the key {key!r}; JSON's keys are text")
    return key


def _from_framework(value: Any) -> Any:
    """A number or nested lists, from whatever has the methods of an array; otherwise None."""
    if hasattr(value, "detach"):  # a tensor that may require a gradient, on any device
        value = value.detach().cpu()
    elif callable(getattr(value, "numpy", None)):  # a Keras or TensorFlow variable
        value = value.numpy()
    if not callable(getattr(value, "tolist", None)):
        return None
    if getattr(value, "size", None) == 1 or (callable(getattr(value, "numel", None)) and value.numel() == 1):
        return _real(value.item())
    return value.tolist()


def _real(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else None
