"""MXNet's operators of two inputs, or of one and a number; products of matrices."""

from __future__ import annotations

from functools import cache, partial

from catchment.errors import ConversionFailed
from catchment.formats.convert import onnx_parts
from catchment.formats.convert.mxnet.onnx.op import Op
from catchment.formats.convert.mxnet.symbol import Node
from catchment.formats.convert.onnx_graph import OnnxGraph

BINARY = {
    "add": "Add",
    "div": "Div",
    "maximum": "Max",
    "minimum": "Min",
    "minus": "Sub",
    "mul": "Mul",
    "plus": "Add",
    "power": "Pow",
    "sub": "Sub",
}

COMPARISONS = {
    "equal": "Equal",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "lesser": "Less",
    "lesser_equal": "LessOrEqual",
}
"""They give 1.0 and 0.0."""

FLOAT = 1


def _both(graph: OnnxGraph, op: str, first: str, second: str) -> list[str]:
    result = graph.add(op, [first, second])
    return [graph.add("Cast", [result], to=FLOAT) if op in COMPARISONS.values() else result]


def binary(op: str, graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
    """Two tensors, value by value; MXNet's elemwise and broadcast forms are one in ONNX."""
    return _both(graph, op, inputs[0], inputs[1])


def not_equal(graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
    """1 where two tensors differ, else 0."""
    return [graph.add("Cast", [graph.add("Not", [graph.add("Equal", inputs)])], to=FLOAT)]


def with_number(op: str, swapped: bool, graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """A tensor and the number `scalar`; swapped, the number stands in front."""
    number = graph.scalar(node.attributes.number("scalar"))
    return _both(graph, op, *((number, inputs[0]) if swapped else (inputs[0], number)))


def not_equal_number(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """1 where a tensor is not the number `scalar`, else 0."""
    return not_equal(graph, node, [inputs[0], graph.scalar(node.attributes.number("scalar"))])


def total(graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
    """The sum of all inputs."""
    return [graph.add("Sum", inputs)]


def dot(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """dot of matrices, and of any tensor with a matrix."""
    first, second = inputs
    if graph.rank(second) > 2 or (graph.rank(first) != 2 and node.attributes.flag("transpose_a")):
        raise ConversionFailed("dot can be converted when its second input is a matrix or vector")
    if node.attributes.flag("transpose_a"):
        first = graph.add("Transpose", [first], perm=[1, 0])
    if node.attributes.flag("transpose_b"):
        second = graph.add("Transpose", [second], perm=[1, 0])
    return [graph.add("MatMul", [first, second])]


def batch_dot(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """batch_dot and linalg_gemm2: products of the last two dimensions, times alpha."""
    if node.attributes.has("axis") and node.attributes.whole("axis") != -2:
        raise ConversionFailed("only axis -2 can be converted")
    turned = []
    for name, tensor in zip(("transpose_a", "transpose_b"), inputs, strict=True):
        order = [*range(graph.rank(tensor) - 2), graph.rank(tensor) - 1, graph.rank(tensor) - 2]
        turned.append(graph.add("Transpose", [tensor], perm=order) if node.attributes.flag(name) else tensor)
    return [onnx_parts.scaled(graph, graph.add("MatMul", turned), node.attributes.number("alpha", 1.0), 0.0)]


def where(graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
    """The second input where the first is not 0, else the third."""
    condition = graph.add("Cast", inputs[:1], to=9)
    return [graph.add("Where", [condition, *inputs[1:]])]


@cache
def _binary(op: str) -> Op:
    return partial(binary, op)


@cache
def _with_number(op: str, swapped: bool) -> Op:
    return partial(with_number, op, swapped)


def _two() -> dict[str, Op]:
    found: dict[str, Op] = {}
    for name, op in {**BINARY, **COMPARISONS}.items():
        long = "_".join(part.capitalize() for part in name.split("_"))
        both, number = _binary(op), _with_number(op, False)
        for spelling in (f"_{name}", f"_{long}", f"broadcast_{name}", f"elemwise_{name}"):
            found[spelling] = both
        found[f"_{name}_scalar"] = found[f"_{long.replace('_', '')}Scalar"] = number
    for name in ("minus", "div", "power"):
        swapped = _with_number(BINARY[name], True)
        found[f"_r{name}_scalar"] = found[f"_R{name.capitalize()}Scalar"] = swapped
    return found


OPS: dict[str, Op] = {
    **_two(),
    "ElementWiseSum": total,
    "_grad_add": _binary("Add"),
    "_linalg_gemm2": batch_dot,
    "_not_equal": not_equal,
    "_not_equal_scalar": not_equal_number,
    "add_n": total,
    "batch_dot": batch_dot,
    "broadcast_not_equal": not_equal,
    "dot": dot,
    "linalg_gemm2": batch_dot,
    "where": where,
}
