"""Caffe2's normalisations, softmax, and products of matrices."""

from __future__ import annotations

import math

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert import onnx_parts
from catchment.formats.convert.netdef.geometry import axis_of, refuse_channels_last
from catchment.formats.convert.netdef.model import Operator
from catchment.formats.convert.netdef.onnx.op import Op
from catchment.formats.convert.onnx_graph import OnnxGraph


def fully_connected(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """FC and FCTransposed; a weight of more dimensions is a matrix cut at axis_w."""
    data, weight, bias = inputs
    turned = op.type == "FCTransposed"
    if graph.rank(weight) != 2:
        values = graph.value(weight)
        if values is None or turned:
            raise ConversionFailed("a weight of more than two dimensions must be constant")
        axis_w = axis_of(op.arguments, "axis_w", 1, values.ndim)
        weight = graph.constant(values.reshape(math.prod(values.shape[:axis_w]), -1), "weight")
    axis = axis_of(op.arguments, "axis", 1, graph.rank(data))
    return [onnx_parts.linear(graph, data, weight, bias, axis=axis, transposed=turned)]


def matmul(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """MatMul of matrices and BatchMatMul."""
    if any(op.arguments.whole(name, 1) != 1 for name in ("axis_a", "axis_b")):
        raise ConversionFailed("axis_a and axis_b must be 1")
    turned = []
    for name, tensor in zip(("trans_a", "trans_b"), inputs, strict=True):
        rank = graph.rank(tensor)
        order = [*range(rank - 2), rank - 1, rank - 2]
        turned.append(graph.add("Transpose", [tensor], perm=order) if op.arguments.whole(name, 0) else tensor)
    return [graph.add("MatMul", turned)]


def spatial_bn(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """SpatialBN with its stored statistics."""
    refuse_channels_last(op.arguments)
    if not op.arguments.whole("is_test", 0):
        raise ConversionFailed(
            "is_test is not set: it would take each batch's own statistics, which is no inference"
        )
    return [graph.add("BatchNormalization", inputs, epsilon=op.arguments.number("epsilon", 1e-5))]


def affine_channel(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """AffineChannel: times and plus a value for each channel."""
    refuse_channels_last(op.arguments)
    rank = graph.rank(inputs[0])
    scale, bias = (onnx_parts.reshaped_along(graph, each, 1, rank) for each in inputs[1:])
    return [graph.add("Add", [graph.add("Mul", [inputs[0], scale]), bias])]


def instance_norm(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """InstanceNorm."""
    refuse_channels_last(op.arguments)
    return [graph.add("InstanceNormalization", inputs, epsilon=op.arguments.number("epsilon", 1e-5))]


def layer_norm(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """LayerNorm over everything from `axis` on, with trained factors if elementwise_affine says so."""
    data = inputs[0]
    rank = graph.rank(data)
    axis = axis_of(op.arguments, "axis", 1, rank)
    shape = graph.known(data, range(axis, rank))
    if not op.arguments.whole("elementwise_affine", 0):
        inputs = [data, graph.constant(np.ones(shape, np.float32), "scale")]
    return [graph.add("LayerNormalization", inputs, axis=axis, epsilon=op.arguments.number("epsilon", 1e-5))]


def lrn(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """LRN across channels."""
    refuse_channels_last(op.arguments)
    size = op.arguments.whole("size", 0)
    if size < 1 or size % 2 == 0:
        raise ConversionFailed(f"size is {size}, an odd number is expected")
    alpha, beta = op.arguments.number("alpha", 0.0), op.arguments.number("beta", 0.0)
    return [
        graph.add("LRN", inputs, size=size, alpha=alpha, beta=beta, bias=op.arguments.number("bias", 1.0))
    ]


def softmax(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Softmax over everything from `axis` on."""
    data = inputs[0]
    rank = graph.rank(data)
    axis = axis_of(op.arguments, "axis", 1, rank)
    if axis == rank - 1 or all(dim == 1 for dim in graph.shape(data)[axis + 1 :]):
        return [graph.add("Softmax", [data], axis=axis)]
    flat = graph.add("Softmax", [graph.add("Flatten", [data], axis=axis)], axis=1)
    kept = [dim if isinstance(dim, int) else -1 for dim in graph.shape(data)]
    return [graph.add("Reshape", [flat, graph.ints(kept)])]


def normalize(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Normalize: x by its second norm along one dimension."""
    axis = axis_of(op.arguments, "axis", -1, graph.rank(inputs[0]))
    norm = graph.add("ReduceL2", inputs, axes=[axis])
    return [graph.add("Div", [inputs[0], graph.add("Max", [norm, graph.scalar(1e-12)])])]


OPS: dict[str, Op] = {
    "AffineChannel": affine_channel,
    "BatchMatMul": matmul,
    "FC": fully_connected,
    "FCTransposed": fully_connected,
    "InstanceNorm": instance_norm,
    "LRN": lrn,
    "LayerNorm": layer_norm,
    "MatMul": matmul,
    "Normalize": normalize,
    "Softmax": softmax,
    "SpatialBN": spatial_bn,
}
