"""MXNet's operators that cut pieces out, or turn them around."""

from __future__ import annotations

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.mxnet.onnx.op import Op
from catchment.formats.convert.mxnet.symbol import Node
from catchment.formats.convert.onnx_graph import OnnxGraph

FAR = 2**31 - 1
"""Behind the end of every dimension."""


def cut(graph: OnnxGraph, data: str, axis: int, begin: int, end: int | None, step: int = 1) -> str:
    """A range of one dimension; None is its end, in the direction of the step."""
    last = (-FAR if step < 0 else FAR) if end is None else end
    return graph.add("Slice", [data, *(graph.ints([each]) for each in (begin, last, axis, step))])


def slices(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """slice: a range of each of the first dimensions."""
    begins, ends = node.attributes.open_numbers("begin"), node.attributes.open_numbers("end")
    steps = node.attributes.open_numbers("step", ()) or (1,) * len(begins)
    data = inputs[0]
    for axis, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        by = 1 if step is None else step
        start = (FAR if by < 0 else 0) if begin is None else begin
        if (start, end, by) != (0, None, 1):
            data = cut(graph, data, axis, start, end, by)
    return [data]


def slice_axis(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """A range of one dimension."""
    attributes = node.attributes
    (end,) = attributes.open_numbers("end", ()) or (None,)
    return [cut(graph, inputs[0], attributes.whole("axis"), attributes.whole("begin"), end)]


def slice_like(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Cut to the size of another tensor."""
    rank = graph.rank(inputs[0])
    axes = [axis % rank for axis in node.attributes.numbers("axes", ()) or tuple(range(rank))]
    data = inputs[0]
    for axis in axes:
        if graph.shape(data)[axis] != graph.shape(inputs[1])[axis]:
            data = cut(graph, data, axis, 0, graph.known(inputs[1], [axis])[0])
    return [data]


def crop(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Crop: a piece of the image, at an offset or from the middle, of a given size or another image's."""
    attributes = node.attributes
    have = graph.known(inputs[0], [2, 3])
    want = graph.known(inputs[1], [2, 3]) if len(inputs) > 1 else list(attributes.numbers("h_w"))
    starts = list(attributes.numbers("offset", (0, 0)))
    if attributes.flag("center_crop"):
        starts = [(size - piece) // 2 for size, piece in zip(have, want, strict=True)]
    ends = [start + piece for start, piece in zip(starts, want, strict=True)]
    if any(end > size for end, size in zip(ends, have, strict=True)):
        raise ConversionFailed(f"a piece of {want} at {starts} does not fit into {have}")
    return [graph.add("Slice", [inputs[0], graph.ints(starts), graph.ints(ends), graph.ints([2, 3])])]


def flip(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Values in reverse along some dimensions."""
    data = inputs[0]
    for axis in node.attributes.numbers("axis"):
        data = cut(graph, data, axis, FAR, None, -1)
    return [data]


def sequence_reverse(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """The steps of whole sequences in reverse."""
    _whole_sequences(node)
    return [cut(graph, inputs[0], node.attributes.whole("axis", 0), FAR, None, -1)]


def sequence_last(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """The last step of whole sequences."""
    _whole_sequences(node)
    index = graph.constant(np.array(-1, np.int64), "last")
    return [graph.add("Gather", [inputs[0], index], axis=node.attributes.whole("axis", 0))]


def _whole_sequences(node: Node) -> None:
    if node.attributes.flag("use_sequence_length"):
        raise ConversionFailed("use_sequence_length cannot be converted")


OPS: dict[str, Op] = {
    "Crop": crop,
    "SequenceLast": sequence_last,
    "SequenceReverse": sequence_reverse,
    "crop": slices,
    "flip": flip,
    "reverse": flip,
    "slice": slices,
    "slice_axis": slice_axis,
    "slice_like": slice_like,
}
