"""Layers that make fewer values of many."""

from __future__ import annotations

from catchment.errors import ConversionFailed
from catchment.formats.convert import onnx_parts
from catchment.formats.convert.caffe.geometry import axis_of
from catchment.formats.convert.caffe.model import Layer
from catchment.formats.convert.caffe.onnx.op import Op
from catchment.formats.convert.onnx_graph import OnnxGraph

REDUCTIONS = {"1": "SUM", "2": "ASUM", "3": "SUMSQ", "4": "MEAN"}


def reduction(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """SUM, ASUM, SUMSQ or MEAN of everything from `axis` on, times coeff."""
    params = layer.params.message("reduction_param")
    kind = params.text("operation", "SUM")
    kind = REDUCTIONS.get(kind, kind)
    rank = graph.rank(bottoms[0])
    axes = list(range(axis_of(params.whole("axis", 0), rank, layer.name), rank))
    data = bottoms[0]
    if kind not in REDUCTIONS.values():
        raise ConversionFailed(f"reduction_param.operation {kind} is not known")
    if kind == "ASUM":
        data = graph.add("Abs", [data])
    if kind == "SUMSQ":
        data = graph.add("Mul", [data, data])
    if kind == "MEAN":
        data = graph.add("ReduceMean", [data], axes=axes, keepdims=0)
    else:
        data = graph.add("ReduceSum", [data, graph.ints(axes)], keepdims=0)
    return [onnx_parts.scaled(graph, data, params.number("coeff", 1.0), 0.0)]


def argmax(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """Where the largest values are, as floats; without an axis over each image, shape (N, 1 or 2, top_k)."""
    params = layer.params.message("argmax_param")
    top, values = params.whole("top_k", 1), params.flag("out_max_val", False)
    if params.has("axis"):
        axis = axis_of(params.whole("axis"), graph.rank(bottoms[0]), layer.name)
        found, where = _top(graph, bottoms[0], axis, top)
        return [found if values else where]
    flat = graph.add("Flatten", bottoms, axis=1)
    found, where = (graph.add("Unsqueeze", [each, graph.ints([1])]) for each in _top(graph, flat, 1, top))
    return [graph.add("Concat", [where, found], axis=1) if values else where]


def _top(graph: OnnxGraph, data: str, axis: int, count: int) -> tuple[str, str]:
    values, where = graph.add_many("TopK", [data, graph.ints([count])], 2, axis=axis)
    return values, graph.add("Cast", [where], to=1)


OPS: dict[str, Op] = {"ArgMax": argmax, "Reduction": reduction}
