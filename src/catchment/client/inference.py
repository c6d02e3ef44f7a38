"""Requests of the Open Inference Protocol from files of numbers, and its answers as arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catchment.client.reading import reading
from catchment.errors import InvalidField, Refused

TYPES = {
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
"""The protocol's datatypes that are plain numbers."""


def read_numbers(path: Path) -> NDArray[Any]:
    """The array of a .npy file, or the rows of a .csv.

    Raises:
        Refused: the file is neither, or holds something else than numbers.
    """
    try:
        if path.suffix.lower() == ".npy":
            found: NDArray[Any] = np.load(path, allow_pickle=False)
        elif path.suffix.lower() == ".csv":
            found = np.loadtxt(path, delimiter=",", ndmin=2, dtype=np.float64)
        else:
            raise Refused(f"{path} must be .json (a request), .npy, or .csv with rows of numbers")
    except (OSError, ValueError, EOFError) as error:
        raise Refused(f"{path} holds no numbers that can be read: {error}") from None
    if found.dtype.kind not in "biuf" or not found.size:
        raise Refused(f"{path} must hold numbers, it has {found.size} of {found.dtype}")
    return found


def request_of(
    values: NDArray[Any], metadata: Mapping[str, Any], name: str | None = None
) -> tuple[bytes, int]:
    """A request with one input as raw little-endian bytes: the body, and how long its JSON is.

    Args:
        values: what goes in; rows where the model takes a batch, in the model's shape or flat.
        metadata: the model's.
        name: of the input; by default the model's only one.

    Raises:
        InvalidField: the model has no such input, or takes another shape or other numbers.
    """
    wanted = _input(metadata, name)
    kind = str(wanted["datatype"])
    if kind not in TYPES:
        raise InvalidField(
            str(wanted["name"]), f"takes {kind}, which is no plain number; send a .json request"
        )
    shaped = _shaped(values, [int(size) for size in wanted["shape"]], str(wanted["name"]))
    raw = _cast(shaped, TYPES[kind], str(wanted["name"]), kind).tobytes()
    told = {
        "name": wanted["name"],
        "datatype": kind,
        "shape": list(shaped.shape),
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [told]}).encode()
    return head + raw, len(head)


def _input(metadata: Mapping[str, Any], name: str | None) -> Mapping[str, Any]:
    with reading("model's metadata"):
        known: Sequence[Mapping[str, Any]] = metadata["inputs"]
        names = [str(each["name"]) for each in known]
    if name is None and len(known) == 1:
        return known[0]
    for each in known:
        if each["name"] == name:
            return each
    asked = f"there is no input {name!r}" if name else "the model has several inputs, name one"
    raise InvalidField("input", f"{asked}; it has {', '.join(names)}")


def _shaped(values: NDArray[Any], shape: list[int], name: str) -> NDArray[Any]:
    """The values in the model's shape, of which -1 is open; rows may be flat."""
    fits = len(shape) == values.ndim and all(
        wanted in (-1, size) for wanted, size in zip(shape, values.shape, strict=True)
    )
    if fits:
        return values
    count = values.size
    known = prod(size for size in shape if size != -1)
    if shape.count(-1) <= 1 and known and count % known == 0 and (-1 in shape or count == known):
        return values.reshape(shape)
    raise InvalidField(name, f"takes the shape {shape}, the file has {list(values.shape)}")


def _cast(values: NDArray[Any], dtype: str, name: str, kind: str) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        made = values.astype(dtype)
    if np.dtype(dtype).kind in "biu" and not np.array_equal(
        made.astype(np.float64), values.astype(np.float64)
    ):
        raise InvalidField(name, f"takes {kind}, and the file has numbers that are none")
    return np.ascontiguousarray(made)


def arrays_of(answer: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The outputs of an answer in JSON, by name, in their shapes."""
    with reading("inference"):
        return {
            str(each["name"]): np.asarray(each["data"]).reshape([int(size) for size in each["shape"]])
            for each in answer["outputs"]
        }
