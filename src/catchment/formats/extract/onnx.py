"""ONNX: the graph is walked in place; the values of tensors, in the file or beside it, are never read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from catchment.errors import ExtractionFailed
from catchment.formats.extract import dtypes
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import Extracted, TensorSpec, count, shown, sizes
from catchment.formats.protobuf import MAX_DEPTH, Message, message, numbers, signed, text

_STANDARD = "ai.onnx"


@dataclass
class _Found:
    """What is gathered from graphs, the inner ones included."""

    layers: Counter[str] = field(default_factory=Counter)
    nested: Counter[str] = field(default_factory=Counter)
    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    initializers: set[str] = field(default_factory=set)
    parameters: int = 0
    external: set[str] = field(default_factory=set)


def read(folder: ModelFolder) -> Extracted:
    """The signature, operators and operator sets of the one *.onnx file."""
    name = folder.one("*.onnx")
    found, producer = _Found(), ["", ""]
    opset: dict[str, int] = {}
    extras: dict[str, Any] = {}
    with folder.mapped(name) as data:
        graphs = 0
        for number, value in Message(data):
            if number == 7:
                graphs += 1
                _graph(message(value), found, 0)
            elif number == 8:
                opset.update([_operator_set(message(value))])
            elif number == 25:
                _function(message(value), found)
            elif number in (2, 3):
                producer[number - 2] = text(value)
            elif number == 1:
                extras["irVersion"] = signed(value)
    if graphs != 1:
        raise ExtractionFailed(f"{shown(name)} is no ONNX model: it holds {graphs} graphs where one belongs")
    extras.update(_extras(found, producer[0], folder))
    inputs = tuple(tensor for tensor in found.inputs if tensor.name not in found.initializers)
    return Extracted(
        "ONNX",
        "ONNX",
        " ".join(producer).strip(),
        inputs,
        tuple(found.outputs),
        found.layers,
        found.parameters,
        opset=opset,
        extras=extras,
        absent=_absent(inputs, found, opset),
    )


def _extras(found: _Found, producer: str, folder: ModelFolder) -> dict[str, Any]:
    extras: dict[str, Any] = {"producer": producer} if producer else {}
    if found.nested:
        extras["nestedLayers"] = dict(found.nested)
    if found.external:
        extras["externalData"] = sorted(found.external)
        missing = [each for each in extras["externalData"] if not _is_file(folder, each)]
        extras |= {"missingExternalData": missing} if missing else {}
    return extras


def _is_file(folder: ModelFolder, location: str) -> bool:
    path = folder.path / location
    return path.is_file() and not path.is_symlink()


def _absent(inputs: tuple[TensorSpec, ...], found: _Found, opset: dict[str, int]) -> tuple[str, ...]:
    absent = [] if inputs else ["inputs: the graph has none"]
    absent += [] if found.outputs else ["outputs: the graph has none"]
    absent += [] if opset else ["opset: the model names no operator set"]
    sizeless = [each.name for each in (*inputs, *found.outputs) if each.size is None]
    if sizeless:
        absent.append(f"the size of {', '.join(shown(name) for name in sizeless[:20])}: not in the file")
    return tuple(absent)


def _graph(graph: Message, found: _Found, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ExtractionFailed(f"the model has graphs in graphs, more than {MAX_DEPTH} deep")
    for number, value in graph:
        if number == 1:
            _node(message(value), found, found.nested if depth else found.layers, depth)
        elif number == 5:
            _initializer(message(value), found, depth)
        elif number == 15:
            _sparse(message(value), found, depth)
        elif number == 11 and not depth:
            found.inputs.append(_value_info(message(value)))
        elif number == 12 and not depth:
            found.outputs.append(_value_info(message(value)))


def _node(node: Message, found: _Found, layers: Counter[str], depth: int) -> None:
    kind = ""
    for number, value in node:
        if number == 4:
            kind = text(value)
        elif number == 5:
            _attribute(message(value), found, depth)
    layers[kind] += 1


def _attribute(attribute: Message, found: _Found, depth: int) -> None:
    """Look for what lies inside an attribute: graphs, and external data of tensors."""
    for number, value in attribute:
        if number in (6, 11):
            _graph(message(value), found, depth + 1)
        elif number in (5, 10):
            _tensor(message(value), found)


def _function(function: Message, found: _Found) -> None:
    for number, value in function:
        if number == 7:
            _node(message(value), found, found.nested, 1)


def _initializer(tensor: Message, found: _Found, depth: int) -> None:
    name, shape = _tensor(tensor, found)
    found.parameters = count([shape, (found.parameters,)])
    if not depth:
        found.initializers.add(name)


def _sparse(tensor: Message, found: _Found, depth: int) -> None:
    for number, value in tensor:
        if number == 1:
            _initializer(message(value), found, depth)


def _tensor(tensor: Message, found: _Found) -> tuple[str, tuple[int, ...]]:
    """Name and shape of a tensor whose values are passed over."""
    dims: list[int] = []
    name, code, raw_bytes = "", 0, None
    for number, value in tensor:
        if number == 1:
            dims += numbers(value)
        elif number == 2:
            code = signed(value)
        elif number == 8:
            name = text(value)
        elif number == 9:
            raw_bytes = len(message(value))
        elif number == 13:
            _external(message(value), found)
    shape = sizes(dims, name)
    if any(size < 0 for size in shape):
        raise ExtractionFailed(f"the tensor {shown(name)} has a negative size")
    _check_length(name, shape, code, raw_bytes)
    return name, shape


def _check_length(name: str, shape: tuple[int, ...], code: int, raw_bytes: int | None) -> None:
    bits = dtypes.bits(dtypes.ONNX.get(code, ""))
    if raw_bytes is not None and bits is not None and raw_bytes * 8 != count([shape]) * bits:
        raise ExtractionFailed(
            f"the tensor {shown(name)} of {dtypes.ONNX[code]}{list(shape)} has {raw_bytes} bytes"
        )


def _external(entry: Message, found: _Found) -> None:
    key = location = ""
    for number, value in entry:
        if number == 1:
            key = text(value)
        elif number == 2:
            location = text(value)
    if key != "location":
        return
    path = PurePosixPath(location)
    if path.is_absolute() or ".." in path.parts or "\\" in location or "\0" in location or not path.parts:
        raise ExtractionFailed(f"external data {shown(location)} lies outside of the model's folder")
    found.external.add(location)


def _operator_set(entry: Message) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in entry:
        if number == 1:
            domain = text(value)
        elif number == 2:
            version = signed(value)
    return domain or _STANDARD, version


def _value_info(info: Message) -> TensorSpec:
    name, kind, size = "", "", None
    for number, value in info:
        if number == 1:
            name = text(value)
        elif number == 2:
            kind, size = _type(message(value), name, 0)
    return TensorSpec(name, size, kind)


def _type(holder: Message, name: str, depth: int) -> tuple[str, tuple[int, ...] | None]:
    if depth > MAX_DEPTH:
        raise ExtractionFailed(f"the type of {shown(name)} is nested more than {MAX_DEPTH} deep")
    for number, value in holder:
        if number in (1, 8):
            return _tensor_type(message(value), name)
        if number in (4, 5, 9):
            inner = next((item for part, item in message(value) if part == (2 if number == 5 else 1)), None)
            kind = _type(message(inner), name, depth + 1)[0] if inner is not None else ""
            return f"{ {4: 'sequence', 5: 'map', 9: 'optional'}[number] }({kind})", None
    return "", None


def _tensor_type(holder: Message, name: str) -> tuple[str, tuple[int, ...] | None]:
    kind, size = "", None
    for number, value in holder:
        if number == 1 and value != 0:
            kind = dtypes.named(dtypes.ONNX, signed(value))
        elif number == 2:
            size = sizes([_dimension(message(dim)) for part, dim in message(value) if part == 1], name)
    return kind, size


def _dimension(dimension: Message) -> int:
    return next((signed(value) for number, value in dimension if number == 1), -1)
