"""Caffe2's operators that make fewer values of many."""

from __future__ import annotations

from functools import partial

from catchment.formats.convert.netdef.geometry import axis_of
from catchment.formats.convert.netdef.model import Operator
from catchment.formats.convert.netdef.onnx.op import Op
from catchment.formats.convert.onnx_graph import OnnxGraph


def reduced(name: str, graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """ReduceSum and its like over `axes`, by default all."""
    axes = op.arguments.wholes("axes") or list(range(graph.rank(inputs[0])))
    return [_reduce(graph, name, inputs[0], axes, op.arguments.whole("keepdims", 1))]


def reduced_back(name: str, graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """ReduceBackMean and its like over the last num_reduce_dim dimensions."""
    rank = graph.rank(inputs[0])
    axes = list(range(rank - op.arguments.whole("num_reduce_dim", 1), rank))
    return [_reduce(graph, name, inputs[0], axes, 0)]


def _reduce(graph: OnnxGraph, name: str, data: str, axes: list[int], kept: int) -> str:
    if name == "ReduceSum":
        return graph.add(name, [data, graph.ints(axes)], keepdims=kept)
    return graph.add(name, [data], axes=axes, keepdims=kept)


def extreme(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """ArgMax and ArgMin."""
    axis = axis_of(op.arguments, "axis", -1, graph.rank(inputs[0]))
    return [graph.add(op.type, inputs, axis=axis, keepdims=op.arguments.whole("keepdims", 1))]


OPS: dict[str, Op] = {
    **{
        name: partial(reduced, name)
        for name in ("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin")
    },
    **{f"ReduceBack{kind}": partial(reduced_back, f"Reduce{kind}") for kind in ("Max", "Mean", "Sum")},
    "ArgMax": extreme,
    "ArgMin": extreme,
    "ReduceSum": partial(reduced, "ReduceSum"),
}
