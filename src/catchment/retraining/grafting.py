"""Putting trained weights into an ONNX graph: initializers of the tensors' names get their bytes.

Nothing else of the graph changes, and nothing of it is executed. The layout is that of onnx.proto (ONNX
IEEE-registered format, ModelProto, GraphProto, TensorProto).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from catchment.errors import BadArtifact, TensorMismatch
from catchment.formats import protobuf
from catchment.formats.protobuf import BYTES, Message
from catchment.formats.protobuf_writer import content, integer, varint
from catchment.models.reading import TensorFile

MODEL_GRAPH, GRAPH_INITIALIZER, GRAPH_SPARSE = 7, 5, 15
DIMS, DATA_TYPE, NAME, RAW_DATA, LOCATION = 1, 2, 8, 9, 14
EXTERNAL = 1
MOST_BYTES = 2**31 - 1
"""Protobuf's own limit of a message."""
TYPES = {
    "F32": 1,
    "U8": 2,
    "I8": 3,
    "U16": 4,
    "I16": 5,
    "I32": 6,
    "I64": 7,
    "BOOL": 9,
    "F16": 10,
    "F64": 11,
    "U32": 12,
    "U64": 13,
    "BF16": 16,
}
"""safetensors' dtypes as TensorProto.DataType."""
FLOATS = frozenset({1, 10, 11, 16})


@dataclass(frozen=True)
class _Initializer:
    name: str
    data_type: int
    dims: tuple[int, ...]
    external: bool

    @property
    def is_weight(self) -> bool:
        """Whether it looks trained: floats, and more than a single one."""
        return self.data_type in FLOATS and int(np.prod(self.dims, dtype=np.int64)) > 1


def graft(model: memoryview, weights: TensorFile, keep: Collection[str] = ()) -> Iterator[bytes]:
    """The model's bytes with the weights in the place of its initializers of the same names, piece by piece.

    Args:
        model: an ONNX file.
        weights: tensors; those that are no floats may be without an initializer (counters of batches, say).
        keep: names of initializers that stay though they look like weights.

    Raises:
        BadArtifact: the file is no ONNX model, or keeps tensors in other files, or gets too large.
        TensorMismatch: names, shapes or dtypes differ; the message says which.
    """
    try:
        graph = _only(Message(model), MODEL_GRAPH)
        found = [_initializer(value) for number, value in graph if number == GRAPH_INITIALIZER]
        if any(number == GRAPH_SPARSE for number, _ in graph):
            raise BadArtifact("the graph has sparse initializers, which no weights can be put into")
    except protobuf.Broken as error:
        raise BadArtifact(f"the file is no ONNX model: {error}") from None
    _check(found, weights, frozenset(keep))
    return _pieces(Message(model), graph, weights)


def _pieces(model: Message, graph: Message, weights: TensorFile) -> Iterator[bytes]:
    size = sum(len(each) for each in _graph(graph, weights))
    if size + len(model) - len(graph) > MOST_BYTES:
        raise BadArtifact("the model gets larger than 2 GiB, which an ONNX file cannot be")
    for number, _, field in model.spans():
        if number == MODEL_GRAPH:
            yield varint(number << 3 | BYTES) + varint(size)
            yield from _graph(graph, weights)
        else:
            yield bytes(field)


def _graph(graph: Message, weights: TensorFile) -> Iterator[bytes]:
    for number, value, field in graph.spans():
        if number == GRAPH_INITIALIZER and (name := _initializer(value).name) in weights.signature:
            yield content(number, _tensor(name, weights))
        else:
            yield bytes(field)


def _tensor(name: str, weights: TensorFile) -> bytes:
    info = weights.signature[name]
    raw = np.ascontiguousarray(weights.array(name)).tobytes()
    dims = b"".join(integer(DIMS, size) for size in info.shape)
    return dims + integer(DATA_TYPE, TYPES[info.dtype]) + content(NAME, name) + content(RAW_DATA, raw)


def _only(holder: Message, wanted: int) -> Message:
    found = [protobuf.message(value) for number, value in holder if number == wanted]
    if len(found) != 1:
        raise BadArtifact(f"the file is no ONNX model: it has {len(found)} graphs")
    return found[0]


def _initializer(value: int | Message) -> _Initializer:
    name, data_type, external = "", 0, False
    dims: list[int] = []
    for number, found in protobuf.message(value):
        match number:
            case 1:
                dims += protobuf.numbers(found)
            case 2:
                data_type = protobuf.signed(found)
            case 8:
                name = protobuf.exact_text(found)
            case 14:
                external = protobuf.signed(found) == EXTERNAL
    return _Initializer(name, data_type, tuple(dims), external)


def _check(found: list[_Initializer], weights: TensorFile, keep: frozenset[str]) -> None:
    known = {each.name: each for each in found}
    if len(known) != len(found):
        raise BadArtifact("the graph has two initializers of one name")
    for name, info in weights.signature.items():
        into = known.get(name)
        data_type = TYPES.get(info.dtype)
        if into is None:
            if data_type in FLOATS:
                raise TensorMismatch(f"the graph has no initializer {name!r}; it has {_shown(known)}")
            continue
        if (data_type, tuple(info.shape)) != (into.data_type, into.dims):
            raise TensorMismatch(
                f"{name!r} is {info.dtype} {list(info.shape)} in the weights, and in the graph "
                f"{_dtype(into.data_type)} {list(into.dims)}"
            )
    stays = [each for each in found if each.name not in weights.signature]
    for each in stays:
        if each.external:
            raise BadArtifact(f"the graph keeps {each.name!r} in another file")
        if each.is_weight and each.name not in keep:
            raise TensorMismatch(
                f"the graph's initializer {each.name!r} looks like a weight and is not among the job's; "
                "where it is a constant, convert.keep may name it"
            )


def _shown(names: Collection[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:20]) + (f" and {len(listed) - 20} more" if len(listed) > 20 else "") or "none"


def _dtype(data_type: int) -> str:
    return next((name for name, number in TYPES.items() if number == data_type), f"of type {data_type}")
