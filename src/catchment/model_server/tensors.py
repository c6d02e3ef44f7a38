"""Tensors of requests and replies: what the model asks for, and raw bytes."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from catchment.errors import InvalidField
from catchment.model_server.datatypes import DATATYPES, Array, Datatype

MOST_DIMENSIONS = 32
LARGEST = 1 << 40
"""No tensor here has more elements: bounds the product of a shape before anything is made of it."""
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class TensorSpec:
    """What a model says of one input or output.

    Attributes:
        name: as the model calls it.
        datatype: of the protocol.
        shape: a number for a fixed dimension, a name for one that must be equal wherever the name stands,
            None for any.
    """

    name: str
    datatype: Datatype
    shape: tuple[int | str | None, ...]

    @property
    def sizes(self) -> list[int]:
        """The shape as the protocol writes it: -1 for what varies."""
        return [each if isinstance(each, int) else -1 for each in self.shape]


@dataclass(frozen=True)
class Tensor:
    """Values under a name; the array is contiguous and has the shape. BYTES are str objects."""

    name: str
    datatype: Datatype
    array: Array


@dataclass(frozen=True)
class InferRequest:
    """One inference as a client asks for it, whatever the protocol.

    Attributes:
        inputs: every input of the model, by name.
        outputs: names of those wanted, in order.
        id: the client's own, repeated in the reply.
        binary: names of outputs that go as raw bytes in a REST reply.
    """

    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]
    id: str = ""
    binary: frozenset[str] = field(default=frozenset())


def find_datatype(name: object, where: str) -> Datatype:
    """The datatype of this name. Raises InvalidField."""
    found = DATATYPES.get(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidField(f"{where}.datatype", f"must be one of {', '.join(DATATYPES)}")
    return found


def check_shape(given: object, where: str) -> tuple[int, ...]:
    """The shape that a request states, with a bounded product. Raises InvalidField."""
    if not isinstance(given, list | tuple) or any(type(each) is not int or each < 0 for each in given):
        raise InvalidField(f"{where}.shape", "must be a list of integers of at least 0")
    if len(given) > MOST_DIMENSIONS:
        raise InvalidField(f"{where}.shape", f"must have at most {MOST_DIMENSIONS} dimensions")
    # Zeros do not hide the others: numpy multiplies those too.
    if math.prod(each or 1 for each in given) > LARGEST:
        raise InvalidField(f"{where}.shape", f"must not be of more than {LARGEST} elements")
    return tuple(given)


def check_fits(tensors: Mapping[str, Tensor], specs: Sequence[TensorSpec]) -> None:
    """Refuse inputs that are not those of the model: names, datatypes, dimensions.

    Raises:
        InvalidField: names the tensor and what the model asks for.
    """
    wanted = {spec.name for spec in specs}
    if tensors.keys() != wanted:
        strange, absent = sorted(tensors.keys() - wanted), sorted(wanted - tensors.keys())
        raise InvalidField(
            "inputs",
            f"must be {', '.join(map(repr, sorted(wanted)))}"
            + (f"; not an input: {strange[0]!r:.200}" if strange else "")
            + (f"; missing: {', '.join(map(repr, absent))}" if absent else ""),
        )
    bound: dict[str, int] = {}
    for spec in specs:
        tensor = tensors[spec.name]
        if tensor.datatype is not spec.datatype:
            problem = f"must be {spec.datatype.name}, not {tensor.datatype.name}"
            raise InvalidField(f"inputs.{spec.name}.datatype", problem)
        _check_dimensions(spec, tensor.array.shape, bound)


def _check_dimensions(spec: TensorSpec, shape: tuple[int, ...], bound: dict[str, int]) -> None:
    where = f"inputs.{spec.name}.shape"
    if len(shape) != len(spec.shape):
        raise InvalidField(where, f"must have {len(spec.shape)} dimensions {spec.sizes}, not {list(shape)}")
    for size, wanted in zip(shape, spec.shape, strict=True):
        if isinstance(wanted, str):
            if bound.setdefault(wanted, size) != size:
                raise InvalidField(where, f"{wanted!r} is {bound[wanted]} in another dimension, {size} here")
        elif wanted is not None and size != wanted:
            raise InvalidField(where, f"must be {spec.sizes} (-1 for any), not {list(shape)}")


def from_bytes(raw: bytes | memoryview, datatype: Datatype, shape: tuple[int, ...], where: str) -> Array:
    """The array whose elements these bytes are, row by row, little-endian; a view where it can be one.

    Raises:
        InvalidField: the bytes are not as many as the shape asks for, or no such values.
    """
    count = math.prod(shape)
    if datatype.kind == "bytes":
        return _strings(raw, count, where).reshape(shape)
    if len(raw) != count * datatype.carrier.itemsize:
        problem = f"{datatype.name} of shape {list(shape)} has {count * datatype.carrier.itemsize} bytes"
        raise InvalidField(f"{where}.data", f"{problem}, not {len(raw)}")
    array = np.frombuffer(raw, datatype.carrier).reshape(shape)
    if datatype.kind == "bool" and count and array.view(np.uint8).max() > 1:
        raise InvalidField(f"{where}.data", "a BOOL is one byte, 0 or 1")
    return array if array.flags.aligned else array.copy()


def _strings(raw: bytes | memoryview, count: int, where: str) -> Array:
    """Elements of BYTES: each its length in 4 bytes, then so many bytes of UTF-8 (which ONNX asks for)."""
    if count * _LENGTH.size > len(raw):
        raise InvalidField(f"{where}.data", f"{count} elements of BYTES need more than {len(raw)} bytes")
    array = np.empty(count, object)
    at = 0
    for index in range(count):
        if at + _LENGTH.size > len(raw):
            raise InvalidField(f"{where}.data", f"ends before element {index}")
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if at + length > len(raw):
            raise InvalidField(f"{where}.data", f"ends within element {index}, which says {length} bytes")
        array[index] = text(bytes(raw[at : at + length]), f"{where}.data")
        at += length
    if at != len(raw):
        raise InvalidField(f"{where}.data", f"has {len(raw) - at} bytes after its {count} elements")
    return array


def text(raw: bytes, where: str) -> str:
    """An element of BYTES. Raises InvalidField when it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidField(where, "BYTES must be UTF-8: the strings of ONNX are") from None


def to_bytes(tensor: Tensor) -> bytes:
    """The tensor's elements, row by row, little-endian."""
    if tensor.datatype.kind != "bytes":
        return tensor.array.tobytes()
    parts = []
    for each in tensor.array.ravel():
        raw = each.encode()
        parts += [_LENGTH.pack(len(raw)), raw]
    return b"".join(parts)
