"""MXNet: operators from *symbol.json, shapes from *.params; values are passed over."""

from __future__ import annotations

import json
import struct
from collections import Counter
from typing import Any, BinaryIO

from catchment.errors import ExtractionFailed
from catchment.formats.extract import dtypes
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import Extracted, count, shown, sizes
from catchment.formats.extract.tensors import listed

MAX_SYMBOL_BYTES = 64 * 2**20
MAX_ARRAYS = 200_000
_LIST_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
"""Magic numbers of one array (src/ndarray/ndarray.cc)."""
_DENSE = 0
_BYTES = {"float64": 8, "int64": 8, "uint64": 8, "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2}
_BYTES |= {"uint8": 1, "int8": 1, "bool": 1, "float32": 4, "int32": 4, "uint32": 4}

Spec = tuple[str, tuple[int, ...]]


def read(folder: ModelFolder) -> Extracted:
    """The one pair of *symbol.json and *.params."""
    symbol_name, params_name = folder.one("*symbol.json"), folder.one("*.params")
    symbol = _symbol(folder.content(symbol_name, MAX_SYMBOL_BYTES), symbol_name)
    nodes = symbol["nodes"]
    with folder.opened(params_name) as file:
        params = _params(file)
    stored = {name.partition(":")[2] or name for name in params}
    learned = [shape for name, (_, shape) in params.items() if not name.startswith("aux:")]
    return Extracted(
        "MXNetParams",
        "MXNet",
        _version(symbol),
        layers=Counter(node["op"] for node in nodes if node["op"] != "null"),
        parameters=count(learned),
        extras={
            "arguments": [
                node["name"] for node in nodes if node["op"] == "null" and node["name"] not in stored
            ],
            "results": _heads(symbol, nodes),
            **listed(params),
        },
        absent=(
            "the sizes and dtypes of the inputs: a symbol does not hold them, they must be given",
            "the sizes and dtypes of the outputs: a symbol does not hold them",
            *(() if _version(symbol) else ("the MXNet version: not in the symbol",)),
        ),
    )


def _symbol(content: bytes, name: str) -> dict[str, Any]:
    try:
        symbol = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ExtractionFailed(f"{shown(name)} is no JSON: {error}") from None
    nodes = symbol.get("nodes") if isinstance(symbol, dict) else None
    if not isinstance(nodes, list) or not nodes:
        raise ExtractionFailed(f"{shown(name)} is no symbol of MXNet: it has no nodes")
    for node in nodes:
        if not isinstance(node, dict) or not all(isinstance(node.get(key), str) for key in ("op", "name")):
            raise ExtractionFailed(f"{shown(name)} is no symbol of MXNet: a node lacks 'op' or 'name'")
    return dict(symbol)


def _version(symbol: dict[str, Any]) -> str:
    """ "1.9.1" of ["int", 10901]; "" where it is not there."""
    attributes = symbol.get("attrs")
    entry = attributes.get("mxnet_version") if isinstance(attributes, dict) else None
    number = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    return (
        f"{number // 10000}.{number // 100 % 100}.{number % 100}"
        if type(number) is int and number > 0
        else ""
    )


def _heads(symbol: dict[str, Any], nodes: list[Any]) -> list[str]:
    heads = symbol.get("heads")
    places = [head[0] for head in heads if isinstance(head, list) and head] if isinstance(heads, list) else []
    return [nodes[place]["name"] for place in places if type(place) is int and 0 <= place < len(nodes)]


def _params(file: BinaryIO) -> dict[str, Spec]:
    """Name -> dtype and shape; file format of NDArray lists."""
    size = file.seek(0, 2)
    file.seek(0)
    if _number(file, "Q") != _LIST_MAGIC:
        raise ExtractionFailed("the .params file is no list of MXNet's arrays")
    _number(file, "Q")
    number = _number(file, "Q")
    if number > MAX_ARRAYS:
        raise ExtractionFailed(f"the .params file announces {number} arrays")
    specs = [_array(file, size) for _ in range(number)]
    if _number(file, "Q") != number:
        raise ExtractionFailed("the .params file has not as many names as arrays")
    return dict(zip((_name(file) for _ in specs), specs, strict=True))


def _array(file: BinaryIO, size: int) -> Spec:
    magic = _number(file, "I")
    if magic in (_V2, _V3):
        if _number(file, "i") != _DENSE:
            raise ExtractionFailed("the .params file holds a sparse array, which is not read")
        shape = _shape(file, _number(file, "I"), "q")
    elif magic == _V1:
        shape = _shape(file, _number(file, "I"), "q")
    else:  # before there were magic numbers: this is the number of dimensions
        shape = _shape(file, magic, "I")
    if not shape and magic != _V3:
        return "", shape  # nothing follows for an array that was never made
    _number(file, "Q")  # the device
    dtype = dtypes.named(dtypes.MXNET, _number(file, "i"))
    end = file.tell() + count([shape]) * _BYTES[dtype]
    if end > size:
        raise ExtractionFailed(
            f"the .params file is cut off: an array of {dtype}{list(shape)} ends behind it"
        )
    file.seek(end)
    return dtype, shape


def _shape(file: BinaryIO, dimensions: int, code: str) -> tuple[int, ...]:
    if dimensions > 32:
        raise ExtractionFailed(f"the .params file is damaged: an array of {dimensions} dimensions")
    shape = sizes([_number(file, code) for _ in range(dimensions)], "an array")
    if min(shape, default=0) < 0:
        raise ExtractionFailed("the .params file is damaged: an array with a negative size")
    return shape


def _name(file: BinaryIO) -> str:
    length = _number(file, "Q")
    name = file.read(length) if length <= 4096 else b""
    if len(name) != length:
        raise ExtractionFailed("the .params file is damaged or cut off: a name does not end")
    return name.decode("utf-8", "replace")


def _number(file: BinaryIO, code: str) -> int:
    form = f"<{code}"
    data = file.read(struct.calcsize(form))
    if len(data) != struct.calcsize(form):
        raise ExtractionFailed("the .params file is cut off")
    found: int = struct.unpack(form, data)[0]
    return found
