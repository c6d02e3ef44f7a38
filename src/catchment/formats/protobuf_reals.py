"""Repeated floating-point fields of protobuf messages as arrays: views where they lie in one piece."""

from __future__ import annotations

import numpy as np

from catchment.formats.protobuf import FIXED32, FIXED64, Broken, Message


def reals(message: Message, number: int, dtype: str) -> np.ndarray:
    """All values of one repeated field of fixed width, packed or one by one.

    Args:
        message: that holds the field.
        number: of the field.
        dtype: '<f4' or '<f8', as the field is declared.

    Raises:
        Broken: the message is none, or a run does not divide into values.
    """
    width = np.dtype(dtype).itemsize
    tag = number << 3 | (FIXED32 if width == 4 else FIXED64)
    parts: list[np.ndarray] = []
    rest: Message | None = message
    while rest is not None:
        value = _next(rest, number)
        if value is None:
            break
        content = value.view()
        if len(content) % width:
            raise Broken(f"field {number} holds no {dtype} values")
        parts.append(np.frombuffer(content, dtype))
        run = _run(rest.behind(value).view(), tag, dtype)
        parts += [run] if len(run) else []
        rest = rest.behind(value, len(run) * (width + 1))
    return np.concatenate(parts) if len(parts) > 1 else parts[0] if parts else np.zeros(0, dtype)


def _next(message: Message, number: int) -> Message | None:
    for found, value in message:
        if found == number:
            if isinstance(value, int):
                raise Broken(f"field {number} holds a whole number where others belong")
            return value
    return None


def _run(data: memoryview, tag: int, dtype: str) -> np.ndarray:
    """The values that `data` begins with, written one by one as (tag, value) pairs of a tag of one byte."""
    pair = np.dtype([("tag", "u1"), ("value", dtype)])
    most, looked = len(data) // pair.itemsize, 64
    if not most or tag > 0x7F or data[0] != tag:
        return np.zeros(0, dtype)
    while True:  # a window that doubles: a short run must not cost a look at the whole file
        pairs = np.frombuffer(data, pair, min(looked, most))
        others = np.flatnonzero(pairs["tag"] != tag)
        if len(others) or len(pairs) == most:
            break
        looked *= 2
    return pairs["value"][: others[0] if len(others) else most]
