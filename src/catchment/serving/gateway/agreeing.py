"""Whether two versions of a model answered alike: replies of the protocol, JSON or raw bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

RELATIVE, ABSOLUTE = 1e-2, 1e-3
"""Numbers that differ by less are alike: rounding of converted models stays below it."""
_TYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
Values = np.ndarray[Any, Any] | list[Any] | bytes


@dataclass(frozen=True)
class Reply:
    """A reply to an inference.

    Attributes:
        json_length: bytes of the body that are JSON; None: all of it.
    """

    status: int
    body: bytes
    json_length: int | None = None


def agree(one: Reply, other: Reply) -> bool:
    """Whether both give the same outputs with the same answers.

    Scores, that is floating-point outputs with two entries or more along their last axis, agree when their
    largest entry is the same one in every row; other numbers when they are close, everything else when equal.
    A reply that is none, an error for one, agrees with nothing.
    """
    if one.status != 200 or other.status != 200:
        return False
    if one.body == other.body:
        return True
    try:
        first, second = _outputs(one), _outputs(other)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return first.keys() == second.keys() and all(
        first[name][0] == second[name][0] and _alike(*first[name], second[name][1]) for name in first
    )


def _outputs(reply: Reply) -> dict[str, tuple[str, Values]]:
    """Datatype and values by output. Raises ValueError, KeyError or TypeError for what is no reply."""
    head = reply.body if reply.json_length is None else reply.body[: reply.json_length]
    rest, at = reply.body[len(head) :], 0
    found = {}
    for output in json.loads(head)["outputs"]:
        kind, shape = str(output["datatype"]), [int(each) for each in output["shape"]]
        size = (output.get("parameters") or {}).get("binary_data_size")
        values: Values
        if size is None:
            values = _from_json(kind, shape, output["data"])
        else:
            raw = rest[at : at + int(size)]
            at += int(size)
            values = _from_bytes(kind, shape, raw)
        found[str(output["name"])] = kind, values
    return found


def _from_json(kind: str, shape: list[int], data: Any) -> Values:
    if kind not in _TYPES and kind != "BF16":
        return [shape, np.asarray(data, object).ravel().tolist()]
    return np.asarray(data, np.float64 if kind == "BF16" else _TYPES[kind]).reshape(shape)


def _from_bytes(kind: str, shape: list[int], raw: bytes) -> Values:
    if kind == "BF16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
    if kind not in _TYPES:
        return raw
    return np.frombuffer(raw, _TYPES[kind]).reshape(shape)


def _alike(kind: str, one: Values, other: Values) -> bool:
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return type(one) is type(other) and one == other
    if one.shape != other.shape:
        return False
    if kind not in ("FP16", "FP32", "FP64", "BF16"):
        return bool(np.array_equal(one, other))
    if one.ndim and one.shape[-1] >= 2 and one.size:
        return bool(np.array_equal(one.argmax(-1), other.argmax(-1)))
    return bool(np.allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True))
