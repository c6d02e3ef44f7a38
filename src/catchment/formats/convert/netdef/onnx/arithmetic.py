"""Caffe2's operators that work value by value."""

from __future__ import annotations

from functools import partial

from catchment.errors import ConversionFailed
from catchment.formats.convert import onnx_parts
from catchment.formats.convert.netdef.fills import DTYPES, FILLS, fill
from catchment.formats.convert.netdef.geometry import broadcast_axis
from catchment.formats.convert.netdef.model import Operator
from catchment.formats.convert.netdef.onnx.op import Op
from catchment.formats.convert.netdef.pointwise import POINTWISE, SAME
from catchment.formats.convert.onnx_graph import OnnxGraph

BINARY = {
    "Add": "Add",
    "Div": "Div",
    "EQ": "Equal",
    "GE": "GreaterOrEqual",
    "GT": "Greater",
    "LE": "LessOrEqual",
    "LT": "Less",
    "Mul": "Mul",
    "Sub": "Sub",
}

ELEMENT = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float64": 11}


def plain(name: str, graph: OnnxGraph, _op: Operator, inputs: list[str]) -> list[str]:
    """An operator that is one of ONNX's."""
    return [graph.add(name, inputs)]


def same(_graph: OnnxGraph, _op: Operator, inputs: list[str]) -> list[str]:
    """The input itself."""
    return inputs[:1]


def binary(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Two tensors; with `broadcast` and `axis` the second stands at that dimension of the first."""
    first, second = inputs
    rank = graph.rank(first)
    axis = broadcast_axis(op.arguments, rank, graph.rank(second))
    if axis is not None:
        second = onnx_parts.reshaped_along(graph, second, axis, rank)
    return [graph.add(BINARY[op.type], [first, second])]


def power(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Pow by an argument, or by a second tensor."""
    if len(inputs) > 1:
        return [graph.add("Pow", inputs)]
    return [graph.add("Pow", [inputs[0], graph.scalar(op.arguments.number("exponent"))])]


def scale(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Times a number."""
    return [onnx_parts.scaled(graph, inputs[0], op.arguments.number("scale", 1.0), 0.0)]


def square(graph: OnnxGraph, _op: Operator, inputs: list[str]) -> list[str]:
    """x · x."""
    return [graph.add("Mul", [inputs[0], inputs[0]])]


def swish(graph: OnnxGraph, _op: Operator, inputs: list[str]) -> list[str]:
    """x · sigmoid(x)."""
    return [graph.add("Mul", [inputs[0], graph.add("Sigmoid", inputs)])]


def leaky(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """LeakyRelu and Elu."""
    default = 0.01 if op.type == "LeakyRelu" else 1.0
    return [graph.add(op.type, inputs, alpha=op.arguments.number("alpha", default))]


def prelu(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """PRelu: a slope for each channel, or one."""
    rank = graph.rank(inputs[0])
    axis = rank - 1 if graph.known(inputs[1], [0]) == [1] else 1
    return [graph.add("PRelu", [inputs[0], onnx_parts.reshaped_along(graph, inputs[1], axis, rank)])]


def clip(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Clip; a bound that is not given is none."""
    bounds = [
        graph.scalar(op.arguments.number(name)) if op.arguments.has(name) else "" for name in ("min", "max")
    ]
    return [graph.add("Clip", [inputs[0], *bounds])]


def many(name: str, graph: OnnxGraph, _op: Operator, inputs: list[str]) -> list[str]:
    """Sum, Mean, Max, Min of any number of tensors."""
    return [graph.add(name, inputs)]


def cast(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Cast."""
    dtype = DTYPES.get(op.arguments.whole("to"))
    if dtype is None:
        raise ConversionFailed(f"the type {op.arguments.whole('to')} cannot be converted")
    return [graph.add("Cast", inputs, to=ELEMENT[dtype])]


def filled(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """A constant; its shape is an argument."""
    if inputs:
        raise ConversionFailed("the shape of another tensor cannot be used here")
    return [graph.constant(fill(op.type, op.arguments, op.outputs[0]), "filled")]


def where(graph: OnnxGraph, _op: Operator, inputs: list[str]) -> list[str]:
    """Where: of the second where the first holds, else of the third."""
    return [graph.add("Where", inputs)]


OPS: dict[str, Op] = {
    **{name: partial(plain, op) for name, (op, _) in POINTWISE.items()},
    **dict.fromkeys(SAME, same),
    **dict.fromkeys(BINARY, binary),
    **dict.fromkeys(FILLS, filled),
    **{name: partial(many, name) for name in ("Max", "Mean", "Min", "Sum")},
    "Cast": cast,
    "Clip": clip,
    "Dropout": same,
    "Elu": leaky,
    "LeakyRelu": leaky,
    "Not": partial(plain, "Not"),
    "PRelu": prelu,
    "Pow": power,
    "Scale": scale,
    "Sqr": square,
    "Swish": swish,
    "Where": where,
}
