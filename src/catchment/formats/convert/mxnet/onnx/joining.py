"""MXNet's operators that join and split tensors, or make constant ones."""

from __future__ import annotations

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.dimensions import checked_size
from catchment.formats.convert.mxnet.onnx.op import Op
from catchment.formats.convert.mxnet.symbol import Node
from catchment.formats.convert.onnx_graph import OnnxGraph


def concat(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """All inputs behind each other along one dimension; of constants, one constant."""
    axis = node.attributes.whole("dim", 1 if node.op in {"Concat", "concat"} else 0)
    values = [graph.value(each) for each in inputs]
    known = [each for each in values if each is not None]
    if len(known) == len(inputs):
        return [graph.constant(np.concatenate(known, axis), "joined")]
    return [graph.add("Concat", inputs, axis=axis)]


def stack(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """All inputs behind each other along a new dimension."""
    axis = node.attributes.whole("axis", 0)
    parts = [graph.add("Unsqueeze", [each, graph.ints([axis])]) for each in inputs]
    return [graph.add("Concat", parts, axis=axis)]


def split(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """SliceChannel: equal pieces of one dimension, which is dropped with squeeze_axis."""
    axis = node.attributes.whole("axis", 1)
    (size,) = graph.known(inputs[0], [axis])
    count = node.attributes.whole("num_outputs")
    if not 0 < count <= size or size % count:
        raise ConversionFailed(f"{size} cannot be cut into {count} equal pieces")
    sizes = [size // count] * count
    return _pieces(graph, inputs[0], sizes, axis, node.attributes.flag("squeeze_axis"))


def split_v2(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """_split_v2: pieces between indices, or equal ones."""
    attributes = node.attributes
    axis = attributes.whole("axis", 1)
    (size,) = graph.known(inputs[0], [axis])
    sections = attributes.whole("sections", 0)
    if not 0 <= sections <= size:
        raise ConversionFailed(f"{size} cannot be cut into {sections} pieces")
    if sections:
        sizes = [size // sections] * sections
    else:
        starts = list(attributes.numbers("indices"))
        starts = starts if starts[:1] == [0] else [0, *starts]
        sizes = [end - start for start, end in zip(starts, [*starts[1:], size], strict=True)]
    if sum(sizes) != size or min(sizes) < 1:
        raise ConversionFailed(f"{size} cannot be cut into {sizes}")
    return _pieces(graph, inputs[0], sizes, axis, attributes.flag("squeeze_axis"))


def _pieces(graph: OnnxGraph, data: str, sizes: list[int], axis: int, squeezed: bool) -> list[str]:
    parts = [data]
    if len(sizes) > 1:
        parts = graph.add_many("Split", [data, graph.ints(sizes)], len(sizes), axis=axis)
    return [graph.add("Squeeze", [each, graph.ints([axis])]) for each in parts] if squeezed else parts


def filled(graph: OnnxGraph, node: Node, _inputs: list[str]) -> list[str]:
    """_zeros, _ones and _full; an unknown dimension (0) becomes 1, which broadcasts."""
    value = {"_ones": 1.0, "_full": node.attributes.number("value", 0.0)}.get(node.op, 0.0)
    shape = [dim if dim > 0 else 1 for dim in node.attributes.numbers("shape")]
    checked_size(shape, f"'{node.name}'")
    return [graph.constant(np.full(shape, value, np.float32), "filled")]


def arange(graph: OnnxGraph, node: Node, _inputs: list[str]) -> list[str]:
    """_arange: numbers from start to stop, each `repeat` times."""
    attributes = node.attributes
    start, step = attributes.number("start", 0.0), attributes.number("step", 1.0)
    stop = attributes.number("stop") if attributes.has("stop") else start
    first, last = (start, stop) if attributes.has("stop") else (0.0, start)
    checked_size(
        [max(0, int(np.ceil((last - first) / step))) * attributes.whole("repeat", 1)], f"'{node.name}'"
    )
    values = np.arange(first, last, step).astype(np.float32)
    return [graph.constant(np.repeat(values, attributes.whole("repeat", 1)), "range")]


OPS: dict[str, Op] = {
    "Concat": concat,
    "SliceChannel": split,
    "_arange": arange,
    "_full": filled,
    "_ones": filled,
    "_rnn_param_concat": concat,
    "_split_v2": split_v2,
    "_zeros": filled,
    "_zeros_without_dtype": filled,
    "concat": concat,
    "split": split,
    "stack": stack,
}
