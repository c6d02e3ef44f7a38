"""MXNet's operators that make fewer values of many."""

from __future__ import annotations

from functools import cache

from catchment.errors import ConversionFailed
from catchment.formats.convert.mxnet.onnx.op import Op
from catchment.formats.convert.mxnet.symbol import Node
from catchment.formats.convert.onnx_graph import OnnxGraph


def _axes(graph: OnnxGraph, node: Node, data: str) -> list[int]:
    """The dimensions to reduce: those named, or with `exclude` all others; without names all."""
    rank = graph.rank(data)
    named = sorted({axis % rank for axis in node.attributes.numbers("axis", ())})
    if not named:
        return list(range(rank))
    return [axis for axis in range(rank) if axis not in named] if node.attributes.flag("exclude") else named


@cache
def reduced(op: str) -> Op:
    """A reduction; of everything it gives shape (1,), as MXNet has no scalars."""

    def build(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
        axes, kept = _axes(graph, node, inputs[0]), node.attributes.flag("keepdims")
        if op == "ReduceSum":
            result = graph.add(op, [inputs[0], graph.ints(axes)], keepdims=int(kept))
        else:
            result = graph.add(op, inputs[:1], axes=axes, keepdims=int(kept))
        return [result if graph.rank(result) else graph.add("Reshape", [result, graph.ints([1])])]

    return build


def norm(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """The first or second norm."""
    order = node.attributes.whole("ord", 2)
    if order not in {1, 2}:
        raise ConversionFailed(f"ord is {order}, 1 or 2 is expected")
    return reduced(f"ReduceL{order}")(graph, node, inputs)


@cache
def extreme(op: str) -> Op:
    """argmax and argmin, as floats; over everything when no axis is named."""

    def build(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
        data, kept = inputs[0], node.attributes.flag("keepdims")
        if node.op == "argmax_channel":
            axis = 1
        elif node.attributes.has("axis"):
            axis = node.attributes.whole("axis")
        else:
            data, axis = graph.add("Reshape", [data, graph.ints([1, -1])]), 1
            kept = False
        return [graph.add("Cast", [graph.add(op, [data], axis=axis, keepdims=int(kept))], to=1)]

    return build


OPS: dict[str, Op] = {
    "argmax": extreme("ArgMax"),
    "argmax_channel": extreme("ArgMax"),
    "argmin": extreme("ArgMin"),
    "max": reduced("ReduceMax"),
    "max_axis": reduced("ReduceMax"),
    "mean": reduced("ReduceMean"),
    "min": reduced("ReduceMin"),
    "min_axis": reduced("ReduceMin"),
    "norm": norm,
    "prod": reduced("ReduceProd"),
    "sum": reduced("ReduceSum"),
    "sum_axis": reduced("ReduceSum"),
}
