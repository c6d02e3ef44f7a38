"""Caffe2's operators that move, join or cut values without changing them."""

from __future__ import annotations

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.netdef.geometry import axis_of, concat_axis, reshaped, slice_ends
from catchment.formats.convert.netdef.model import Operator
from catchment.formats.convert.netdef.onnx.op import Op
from catchment.formats.convert.onnx_graph import OnnxGraph


def concat(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Concat, with add_axis along a new dimension; the second output are the sizes."""
    rank = graph.rank(inputs[0])
    if op.arguments.whole("add_axis", 0):
        axis = axis_of(op.arguments, "axis", 1, rank + 1)
        parts = [graph.add("Unsqueeze", [each, graph.ints([axis])]) for each in inputs]
        return [graph.add("Concat", parts, axis=axis)]
    axis = concat_axis(op.arguments, rank)
    result = graph.add("Concat", inputs, axis=axis)
    sizes = [graph.shape(each)[axis] for each in inputs]
    if not all(isinstance(size, int) for size in sizes):
        return [result]
    return [result, graph.constant(np.array(sizes, np.int32), "sizes")]


def split(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Split by sizes, or into equal pieces."""
    axis = concat_axis(op.arguments, graph.rank(inputs[0]))
    sizes = op.arguments.wholes("split")
    if len(inputs) > 1:
        sizes = _constant(graph, inputs[1])
    (size,) = graph.known(inputs[0], [axis])
    count = len(op.outputs)
    sizes = sizes or [size // count] * count
    if sum(sizes) != size or len(sizes) != count or min(sizes) < 1:
        raise ConversionFailed(f"{size} cannot be cut into {count} pieces of {sizes}")
    return (
        graph.add_many("Split", [inputs[0], graph.ints(sizes)], count, axis=axis) if count > 1 else inputs[:1]
    )


def reshape(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Reshape to an argument or a constant; the second output is the old shape."""
    wanted = _constant(graph, inputs[1]) if len(inputs) > 1 else op.arguments.wholes("shape")
    shape = graph.shape(inputs[0])
    result = graph.add("Reshape", [inputs[0], graph.ints(reshaped(wanted, shape))])
    if not all(isinstance(dim, int) for dim in shape):
        return [result]
    return [result, graph.constant(np.array(shape, np.int64), "old_shape")]


def _constant(graph: OnnxGraph, name: str) -> list[int]:
    values = graph.value(name)
    if values is None:
        raise ConversionFailed(f"'{name}' is computed, here it must be constant")
    return [int(each) for each in values.ravel()]


def flatten(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Flatten to a matrix, cut at `axis`."""
    return [graph.add("Flatten", inputs, axis=op.arguments.whole("axis", 1))]


def flatten_to_vec(graph: OnnxGraph, _op: Operator, inputs: list[str]) -> list[str]:
    """One dimension."""
    return [graph.add("Reshape", [inputs[0], graph.ints([-1])])]


def squeeze(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Squeeze and ExpandDims."""
    name = "Squeeze" if op.type == "Squeeze" else "Unsqueeze"
    return [graph.add(name, [inputs[0], graph.ints(op.arguments.wholes("dims"))])]


def transpose(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Transpose by `axes`, by default the reverse; NCHW2NHWC and NHWC2NCHW."""
    rank = graph.rank(inputs[0])
    orders = {"NCHW2NHWC": [0, *range(2, rank), 1], "NHWC2NCHW": [0, rank - 1, *range(1, rank - 1)]}
    order = orders.get(op.type) or op.arguments.wholes("axes") or list(reversed(range(rank)))
    return [graph.add("Transpose", inputs, perm=order)]


def slices(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Slice between starts and ends, arguments or constants."""
    given = len(inputs) > 1
    starts, ends = (
        _constant(graph, inputs[at]) if given else op.arguments.wholes(name)
        for at, name in ((1, "starts"), (2, "ends"))
    )
    data = inputs[0]
    for axis, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if (start, end) == (0, -1):
            continue
        (size,) = graph.known(data, [axis])
        (last,) = slice_ends([end], [size])
        data = graph.add("Slice", [data, graph.ints([start]), graph.ints([last]), graph.ints([axis])])
    return [data]


def gather(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Gather along one dimension."""
    return [graph.add("Gather", inputs, axis=axis_of(op.arguments, "axis", 0, graph.rank(inputs[0])))]


def tile(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """The tensor `tiles` times along one dimension."""
    counts = [1] * graph.rank(inputs[0])
    counts[axis_of(op.arguments, "axis", 0, len(counts))] = op.arguments.whole("tiles", 1)
    return [graph.add("Tile", [inputs[0], graph.ints(counts)])]


def shuffle(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """ChannelShuffle: channels of the groups in turn."""
    groups, shape = op.arguments.whole("group", 1), list(graph.shape(inputs[0]))
    channels, *image = graph.known(inputs[0], range(1, len(shape)))
    if groups < 1 or channels % groups:
        raise ConversionFailed(f"{channels} channels do not divide into {groups} groups")
    batch = shape[0] if isinstance(shape[0], int) else -1
    apart = graph.add("Reshape", [inputs[0], graph.ints([batch, groups, channels // groups, *image])])
    turned = graph.add("Transpose", [apart], perm=[0, 2, 1, *range(3, 3 + len(image))])
    return [graph.add("Reshape", [turned, graph.ints([batch, channels, *image])])]


def shape_of(graph: OnnxGraph, _op: Operator, inputs: list[str]) -> list[str]:
    """Shape."""
    return [graph.add("Shape", inputs)]


OPS: dict[str, Op] = {
    "ChannelShuffle": shuffle,
    "Concat": concat,
    "DepthConcat": concat,
    "ExpandDims": squeeze,
    "Flatten": flatten,
    "FlattenToVec": flatten_to_vec,
    "Gather": gather,
    "NCHW2NHWC": transpose,
    "NHWC2NCHW": transpose,
    "Reshape": reshape,
    "Shape": shape_of,
    "Slice": slices,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
}
