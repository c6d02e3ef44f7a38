"""Layers that work value by value."""

from __future__ import annotations

import math

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert import onnx_parts
from catchment.formats.convert.caffe.blobs import blob
from catchment.formats.convert.caffe.geometry import axis_of
from catchment.formats.convert.caffe.model import Layer
from catchment.formats.convert.caffe.onnx.op import Op
from catchment.formats.convert.onnx_graph import OnnxGraph


def plain(op: str) -> Op:
    """A layer that is one ONNX operator without attributes."""

    def build(graph: OnnxGraph, _layer: Layer, bottoms: list[str]) -> list[str]:
        return [graph.add(op, [bottoms[0]])]

    return build


def same(_graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """Dropout (in the TEST phase) and Split: the input, once for each top."""
    return [bottoms[0]] * len(layer.tops)


def relu(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """max(x, 0) + negative_slope · min(x, 0)."""
    slope = layer.params.message("relu_param").number("negative_slope", 0.0)
    if slope == 0:
        return [graph.add("Relu", bottoms)]
    return [graph.add("LeakyRelu", bottoms, alpha=slope)]


def relu6(graph: OnnxGraph, _layer: Layer, bottoms: list[str]) -> list[str]:
    """min(max(x, 0), 6), of the forks that run MobileNet v2."""
    return [graph.add("Clip", [bottoms[0], graph.scalar(0.0), graph.scalar(6.0)])]


def prelu(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """A trained slope for each channel, or one for all."""
    shared = layer.params.message("prelu_param").flag("channel_shared", False)
    slope = blob(layer, 0, (1,) if shared else graph.known(bottoms[0], [1]))
    rank = graph.rank(bottoms[0])
    return [
        graph.add(
            "PRelu", [bottoms[0], onnx_parts.along(graph, slope, rank - 1 if shared else 1, rank, "slope")]
        )
    ]


def elu(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """x, and alpha · (e^x - 1) below 0."""
    return [graph.add("Elu", bottoms, alpha=layer.params.message("elu_param").number("alpha", 1.0))]


def swish(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """x · sigmoid(beta · x)."""
    beta = layer.params.message("swish_param").number("beta", 1.0)
    gate = graph.add("Sigmoid", [onnx_parts.scaled(graph, bottoms[0], beta, 0.0)])
    return [graph.add("Mul", [bottoms[0], gate])]


def power(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """(shift + scale · x) ^ power."""
    params = layer.params.message("power_param")
    inner = onnx_parts.scaled(graph, bottoms[0], params.number("scale", 1.0), params.number("shift", 0.0))
    exponent = params.number("power", 1.0)
    return [inner if exponent == 1 else graph.add("Pow", [inner, graph.scalar(exponent)])]


def exp(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """base ^ (shift + scale · x); base -1 means e."""
    params = layer.params.message("exp_param")
    rate = log_of_base(params.number("base", -1.0))
    scale, shift = params.number("scale", 1.0) * rate, params.number("shift", 0.0) * rate
    return [graph.add("Exp", [onnx_parts.scaled(graph, bottoms[0], scale, shift)])]


def log(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """The logarithm of shift + scale · x to `base`; base -1 means e."""
    params = layer.params.message("log_param")
    inner = onnx_parts.scaled(graph, bottoms[0], params.number("scale", 1.0), params.number("shift", 0.0))
    return [
        onnx_parts.scaled(graph, graph.add("Log", [inner]), 1 / log_of_base(params.number("base", -1.0)), 0.0)
    ]


def log_of_base(base: float) -> float:
    """The natural logarithm of a base as Exp and Log layers give it.

    Raises:
        ConversionFailed: the base is neither -1 nor above 0, or 1.
    """
    if base == -1:
        return 1.0
    if base <= 0 or base == 1:
        raise ConversionFailed(f"base is {base}; -1 (e) or a number above 0 other than 1 is expected")
    return math.log(base)


def threshold(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """1 where x is above the threshold, else 0."""
    limit = layer.params.message("threshold_param").number("threshold", 0.0)
    return [graph.add("Cast", [graph.add("Greater", [bottoms[0], graph.scalar(limit)])], to=1)]


def eltwise(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """PROD, SUM (with coefficients) or MAX of bottoms of one shape."""
    params = layer.params.message("eltwise_param")
    kind = {"0": "PROD", "1": "SUM", "2": "MAX"}.get(
        params.text("operation", "SUM"), params.text("operation", "SUM")
    )
    ops = {"PROD": "Mul", "SUM": "Add", "MAX": "Max"}
    if kind not in ops:
        raise ConversionFailed(f"eltwise_param.operation {kind} is not known")
    if len({graph.shape(bottom) for bottom in bottoms}) > 1:
        raise ConversionFailed(f"the bottoms have different shapes {[list(graph.shape(b)) for b in bottoms]}")
    factors = params.floats("coeff")
    if factors:
        if kind != "SUM" or len(factors) != len(bottoms):
            raise ConversionFailed("eltwise_param.coeff needs operation SUM, and one number for each bottom")
        bottoms = [onnx_parts.scaled(graph, b, f, 0.0) for b, f in zip(bottoms, factors, strict=True)]
    result = bottoms[0]
    for each in bottoms[1:]:
        result = graph.add(ops[kind], [result, each])
    return [result]


def scale(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """Scale and Bias: times and plus values from `axis` on, trained or of a second bottom."""
    biased = layer.type == "Bias"
    params = layer.params.message("bias_param" if biased else "scale_param")
    rank = graph.rank(bottoms[0])
    computed = len(bottoms) > 1
    axis = axis_of(params.whole("axis", 1), rank, layer.name)
    count = graph.rank(bottoms[1]) if computed else params.whole("num_axes", 1)
    axes = range(axis, rank if count == -1 else axis + count)
    if computed:
        values = onnx_parts.reshaped_along(graph, bottoms[1], axis, rank)
    else:
        values = _trained(graph, layer, 0, axes, bottoms[0])
    result = graph.add("Add" if biased else "Mul", [bottoms[0], values])
    if not biased and params.flag("bias_term", False):
        result = graph.add("Add", [result, _trained(graph, layer, 0 if computed else 1, axes, bottoms[0])])
    return [result]


def _trained(graph: OnnxGraph, layer: Layer, index: int, axes: range, data: str) -> str:
    values: np.ndarray = blob(layer, index, graph.known(data, axes))
    return onnx_parts.along(graph, values, axes.start, graph.rank(data))


OPS: dict[str, Op] = {
    "AbsVal": plain("Abs"),
    "BNLL": plain("Softplus"),
    "Bias": scale,
    "Dropout": same,
    "ELU": elu,
    "Eltwise": eltwise,
    "Exp": exp,
    "Log": log,
    "PReLU": prelu,
    "Power": power,
    "ReLU": relu,
    "ReLU6": relu6,
    "Scale": scale,
    "Sigmoid": plain("Sigmoid"),
    "Split": same,
    "Swish": swish,
    "TanH": plain("Tanh"),
    "Threshold": threshold,
}
