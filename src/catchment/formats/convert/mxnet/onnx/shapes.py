"""MXNet's operators that move or cut values without changing them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert import onnx_parts
from catchment.formats.convert.dimensions import checked_size
from catchment.formats.convert.mxnet.onnx.op import Op
from catchment.formats.convert.mxnet.onnx.spatial import resized
from catchment.formats.convert.mxnet.reshape import reshaped
from catchment.formats.convert.mxnet.symbol import Node
from catchment.formats.convert.onnx_graph import OnnxGraph


def to_shape(graph: OnnxGraph, data: str, dims: Sequence[int | str | None]) -> str:
    """Reshape to dimensions of which one may be free; constants are reshaped at once."""
    sizes = [dim if isinstance(dim, int) else -1 for dim in dims]
    if sizes.count(-1) > 1:
        raise ConversionFailed(f"more than one dimension of {list(dims)} would be free")
    values = graph.value(data)
    if values is not None:
        return graph.constant(values.reshape(sizes), "reshaped")
    return graph.add("Reshape", [data, graph.ints(sizes)])


def reshape(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Reshape with MXNet's codes 0, -1, -2, -3 and -4."""
    attributes = node.attributes
    wanted = attributes.numbers("shape", ()) or attributes.numbers("target_shape")
    return [to_shape(graph, inputs[0], reshaped(graph.shape(inputs[0]), wanted, attributes.flag("reverse")))]


def reshape_like(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """The shape of another tensor."""
    if any(node.attributes.has(name) for name in ("lhs_begin", "lhs_end", "rhs_begin", "rhs_end")):
        raise ConversionFailed("reshape_like can be converted for whole shapes only")
    return [to_shape(graph, inputs[0], graph.shape(inputs[1]))]


def flatten(graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
    """Everything behind the batch becomes one dimension."""
    return [graph.add("Flatten", inputs, axis=1)]


def transpose(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Dimensions in another order, by default the reverse."""
    order = node.attributes.numbers("axes", ()) or tuple(reversed(range(graph.rank(inputs[0]))))
    return [graph.add("Transpose", inputs, perm=[axis % graph.rank(inputs[0]) for axis in order])]


def swap(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Two dimensions change places."""
    order = list(range(graph.rank(inputs[0])))
    first, second = node.attributes.whole("dim1", 0), node.attributes.whole("dim2", 0)
    order[first], order[second] = order[second], order[first]
    return [graph.add("Transpose", inputs, perm=order)]


def expand_dims(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """A dimension of 1 more."""
    return [graph.add("Unsqueeze", [inputs[0], graph.ints([node.attributes.whole("axis")])])]


def squeeze(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Dimensions of 1 less: those named, or all."""
    if node.attributes.has("axis"):
        axes = list(node.attributes.numbers("axis"))
    else:
        axes = [axis for axis, dim in enumerate(graph.shape(inputs[0])) if dim == 1]
    return [graph.add("Squeeze", [inputs[0], graph.ints(axes)])] if axes else inputs


def broadcast_to(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Repeated to a shape; 0 keeps a dimension."""
    wanted = [dim or 1 for dim in node.attributes.numbers("shape")]
    return [graph.add("Expand", [inputs[0], graph.ints(wanted)])]


def broadcast_axis(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Repeated along dimensions of 1."""
    wanted = [1] * graph.rank(inputs[0])
    for axis, size in zip(node.attributes.numbers("axis"), node.attributes.numbers("size"), strict=True):
        wanted[axis] = size
    return [graph.add("Expand", [inputs[0], graph.ints(wanted)])]


def broadcast_like(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Repeated to the shape of another tensor."""
    if node.attributes.has("lhs_axes") or node.attributes.has("rhs_axes"):
        raise ConversionFailed("broadcast_like can be converted for whole shapes only")
    return [graph.add("Expand", [inputs[0], graph.add("Shape", [inputs[1]])])]


def tile(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """The tensor many times; of fewer and more numbers than dimensions the last belong together."""
    counts, rank = list(node.attributes.numbers("reps")), graph.rank(inputs[0])
    data = inputs[0]
    if len(counts) > rank:
        data = graph.add("Unsqueeze", [data, graph.ints(range(len(counts) - rank))])
    return [graph.add("Tile", [data, graph.ints([1] * (rank - len(counts)) + counts)])]


def repeat(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Each slice of one dimension many times."""
    rank = graph.rank(inputs[0])
    axis, count = node.attributes.whole("axis") % rank, node.attributes.whole("repeats")
    return [resized(graph, inputs[0], [float(count if at == axis else 1) for at in range(rank)])]


def depth_to_space(op: str) -> Op:
    """Channels to places and back."""

    def build(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
        return [graph.add(op, inputs, blocksize=node.attributes.whole("block_size"))]

    return build


def cast(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Cast; half and double precision are kept single, as the whole model is."""
    kind = node.attributes.text("dtype")
    known = {
        "int32": 6,
        "int64": 7,
        "int8": 3,
        "uint8": 2,
        "bool": 9,
        "float32": 1,
        "float16": 1,
        "float64": 1,
    }
    if kind not in known:
        raise ConversionFailed(f"dtype {kind} cannot be converted")
    return [graph.add("Cast", inputs, to=known[kind])]


def one_hot(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """on_value where an index says so, off_value elsewhere; an index outside gives nothing but off_value."""
    attributes = node.attributes
    depth = attributes.whole("depth")
    checked_size([depth], "one_hot", 8)
    index = graph.add("Unsqueeze", [graph.add("Cast", inputs, to=7), graph.ints([-1])])
    hit = graph.add("Equal", [index, graph.constant(np.arange(depth, dtype=np.int64), "classes")])
    on, off = (
        graph.scalar(attributes.number(name, each)) for name, each in (("on_value", 1.0), ("off_value", 0.0))
    )
    return [graph.add("Where", [hit, on, off])]


def filled(value: float) -> Op:
    """zeros_like and ones_like."""

    def build(graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
        return [onnx_parts.scaled(graph, graph.add("Mul", [inputs[0], graph.scalar(0.0)]), 1.0, value)]

    return build


OPS: dict[str, Op] = {
    "Cast": cast,
    "Flatten": flatten,
    "Reshape": reshape,
    "SwapAxis": swap,
    "broadcast_axes": broadcast_axis,
    "broadcast_axis": broadcast_axis,
    "broadcast_like": broadcast_like,
    "broadcast_to": broadcast_to,
    "cast": cast,
    "depth_to_space": depth_to_space("DepthToSpace"),
    "expand_dims": expand_dims,
    "flatten": flatten,
    "one_hot": one_hot,
    "ones_like": filled(1.0),
    "repeat": repeat,
    "reshape": reshape,
    "reshape_like": reshape_like,
    "space_to_depth": depth_to_space("SpaceToDepth"),
    "squeeze": squeeze,
    "swapaxes": swap,
    "tile": tile,
    "transpose": transpose,
    "zeros_like": filled(0.0),
}
