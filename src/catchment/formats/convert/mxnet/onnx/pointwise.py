"""MXNet's operators of one input that work value by value."""

from __future__ import annotations

import math

from catchment.errors import ConversionFailed
from catchment.formats.convert import onnx_parts
from catchment.formats.convert.mxnet.onnx.op import Op
from catchment.formats.convert.mxnet.symbol import Node
from catchment.formats.convert.onnx_graph import OnnxGraph

PLAIN = {
    "abs": "Abs",
    "arccos": "Acos",
    "arcsin": "Asin",
    "arctan": "Atan",
    "ceil": "Ceil",
    "cos": "Cos",
    "cosh": "Cosh",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "log": "Log",
    "negative": "Neg",
    "reciprocal": "Reciprocal",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "softsign": "Softsign",
    "sqrt": "Sqrt",
    "tan": "Tan",
    "tanh": "Tanh",
}
"""Operators that ONNX has as they are."""

ACTIVATIONS = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "softrelu": "Softplus",
    "softsign": "Softsign",
    "tanh": "Tanh",
}

SAME = ("BlockGrad", "Dropout", "MakeLoss", "_copy", "identity", "make_loss", "stop_gradient", "amp_cast")
"""What changes nothing in inference."""


def plain(op: str) -> Op:
    """An operator that is one of ONNX's."""

    def build(graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
        return [graph.add(op, [inputs[0]])]

    return build


def same(_graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
    """The input itself."""
    return inputs[:1]


def activation(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Activation by its act_type."""
    kind = node.attributes.text("act_type")
    if kind not in ACTIVATIONS:
        raise ConversionFailed(f"act_type {kind} is not known")
    return [graph.add(ACTIVATIONS[kind], inputs)]


def leaky(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """LeakyReLU by its act_type; rrelu takes the middle of its bounds in inference."""
    attributes = node.attributes
    kind, slope = attributes.text("act_type", "leaky"), attributes.number("slope", 0.25)
    data = inputs[0]
    if kind == "prelu":
        rank = graph.rank(data)
        axis = 1 if graph.known(inputs[1], [0]) != [1] else rank - 1
        return [graph.add("PRelu", [data, onnx_parts.reshaped_along(graph, inputs[1], axis, rank)])]
    if kind == "elu":
        return [graph.add("Elu", [data], alpha=slope)]
    if kind == "selu":
        return [graph.add("Selu", [data])]
    if kind == "gelu":
        inner = graph.add("Erf", [onnx_parts.scaled(graph, data, 1 / math.sqrt(2), 0.0)])
        return [graph.add("Mul", [data, onnx_parts.scaled(graph, inner, 0.5, 0.5)])]
    if kind == "rrelu":
        slope = (attributes.number("lower_bound", 0.125) + attributes.number("upper_bound", 0.334)) / 2
    elif kind != "leaky":
        raise ConversionFailed(f"act_type {kind} is not known")
    return [graph.add("LeakyRelu", [data], alpha=slope)]


def square(graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
    """x · x."""
    return [graph.add("Mul", [inputs[0], inputs[0]])]


def rsqrt(graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
    """1 / sqrt(x)."""
    return [graph.add("Reciprocal", [graph.add("Sqrt", inputs)])]


def expm1(graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
    """e^x - 1."""
    return [graph.add("Sub", [graph.add("Exp", inputs), graph.scalar(1.0)])]


def log1p(graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
    """log(1 + x)."""
    return [graph.add("Log", [graph.add("Add", [inputs[0], graph.scalar(1.0)])])]


def logarithm(base: float) -> Op:
    """A logarithm to another base."""

    def build(graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
        return [onnx_parts.scaled(graph, graph.add("Log", inputs), 1 / math.log(base), 0.0)]

    return build


def clip(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Values inside a_min and a_max."""
    low, high = (graph.scalar(node.attributes.number(name)) for name in ("a_min", "a_max"))
    return [graph.add("Clip", [inputs[0], low, high])]


def hard_sigmoid(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """alpha · x + beta inside 0 and 1."""
    alpha, beta = node.attributes.number("alpha", 0.2), node.attributes.number("beta", 0.5)
    return [graph.add("HardSigmoid", inputs, alpha=alpha, beta=beta)]


def smooth_l1(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """(scalar · x)² / 2 near 0, |x| - 1 / (2 · scalar²) beyond 1 / scalar²."""
    square_of = node.attributes.number("scalar", 1.0) ** 2
    size = graph.add("Abs", inputs)
    near = onnx_parts.scaled(graph, graph.add("Mul", [size, size]), 0.5 * square_of, 0.0)
    far = onnx_parts.scaled(graph, size, 1.0, -0.5 / square_of)
    return [graph.add("Where", [graph.add("Less", [size, graph.scalar(1 / square_of)]), near, far])]


def rint(graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
    """To the nearest whole number, and from the middle down."""
    return [graph.add("Ceil", [graph.add("Sub", [inputs[0], graph.scalar(0.5)])])]


def logical_not(graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
    """1 where x is 0, else 0."""
    return [graph.add("Cast", [graph.add("Equal", [inputs[0], graph.scalar(0.0)])], to=1)]


OPS: dict[str, Op] = {
    **{name: plain(op) for name, op in PLAIN.items()},
    **dict.fromkeys(SAME, same),
    "Activation": activation,
    "LeakyReLU": leaky,
    "clip": clip,
    "expm1": expm1,
    "hard_sigmoid": hard_sigmoid,
    "log10": logarithm(10.0),
    "log1p": log1p,
    "log2": logarithm(2.0),
    "logical_not": logical_not,
    "rint": rint,
    "rsqrt": rsqrt,
    "smooth_l1": smooth_l1,
    "square": square,
}
