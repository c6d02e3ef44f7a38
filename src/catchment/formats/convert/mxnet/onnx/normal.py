"""MXNet's normalisations, fully connected layers and embeddings."""

from __future__ import annotations

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert import onnx_parts
from catchment.formats.convert.mxnet.onnx.op import Op
from catchment.formats.convert.mxnet.symbol import Node
from catchment.formats.convert.onnx_graph import OnnxGraph


def fully_connected(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """x · Wᵀ + b over everything behind the batch, or with flatten=False over the last dimension."""
    bias = None if node.attributes.flag("no_bias") else inputs[2]
    flat = node.attributes.flag("flatten", True)
    return [
        onnx_parts.linear(graph, inputs[0], inputs[1], bias, axis=1 if flat else graph.rank(inputs[0]) - 1)
    ]


def batch_norm(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """BatchNorm with its running statistics; fix_gamma, which is the default, means a gamma of 1."""
    data, gamma, beta, mean, variance = inputs
    attributes = node.attributes
    eps, rank = attributes.number("eps", 1e-3), graph.rank(data)
    axis = attributes.whole("axis", 1) % rank
    if attributes.flag("fix_gamma", True):
        gamma = graph.constant(np.ones(graph.known(data, [axis]), np.float32), "gamma")
    if axis == 1:
        return [graph.add("BatchNormalization", [data, gamma, beta, mean, variance], epsilon=eps)]
    gamma, beta, mean, variance = (
        onnx_parts.reshaped_along(graph, each, axis, rank) for each in (gamma, beta, mean, variance)
    )
    deviation = graph.add("Sqrt", [onnx_parts.scaled(graph, variance, 1.0, eps)])
    return [_affine(graph, graph.add("Div", [graph.add("Sub", [data, mean]), deviation]), gamma, beta)]


def _affine(graph: OnnxGraph, data: str, gamma: str, beta: str) -> str:
    return graph.add("Add", [graph.add("Mul", [data, gamma]), beta])


def instance_norm(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """InstanceNorm: each channel of each image by itself."""
    return [graph.add("InstanceNormalization", inputs, epsilon=node.attributes.number("eps", 1e-3))]


def layer_norm(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """LayerNorm along one dimension."""
    data, gamma, beta = inputs
    eps, rank = node.attributes.number("eps", 1e-5), graph.rank(data)
    axis = node.attributes.whole("axis", -1) % rank
    if axis == rank - 1:
        return [graph.add("LayerNormalization", inputs, axis=-1, epsilon=eps)]
    gamma, beta = (onnx_parts.reshaped_along(graph, each, axis, rank) for each in (gamma, beta))
    centred = graph.add("Sub", [data, graph.add("ReduceMean", [data], axes=[axis])])
    variance = graph.add("ReduceMean", [graph.add("Mul", [centred, centred])], axes=[axis])
    deviation = graph.add("Sqrt", [onnx_parts.scaled(graph, variance, 1.0, eps)])
    return [_affine(graph, graph.add("Div", [centred, deviation]), gamma, beta)]


def l2_normalization(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """L2Normalization: x / sqrt(sum of squares + eps) of an image, at each place, or of each channel."""
    rank = graph.rank(inputs[0])
    mode = node.attributes.text("mode", "instance")
    axes = {"instance": range(1, rank), "channel": [1], "spatial": range(2, rank)}
    if mode not in axes:
        raise ConversionFailed(f"mode {mode} is not known")
    squares = graph.add("Mul", [inputs[0], inputs[0]])
    sums = graph.add("ReduceSum", [squares, graph.ints(list(axes[mode]))])
    root = graph.add("Sqrt", [onnx_parts.scaled(graph, sums, 1.0, node.attributes.number("eps", 1e-10))])
    return [graph.add("Div", [inputs[0], root])]


def lrn(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """LRN across channels."""
    attributes = node.attributes
    size = attributes.whole("nsize")
    if size < 1 or size % 2 == 0:
        raise ConversionFailed(f"nsize is {size}, an odd number is expected")
    alpha, beta = attributes.number("alpha", 1e-4), attributes.number("beta", 0.75)
    return [graph.add("LRN", inputs, size=size, alpha=alpha, beta=beta, bias=attributes.number("knorm", 2.0))]


def embedding(graph: OnnxGraph, _node: Node, inputs: list[str]) -> list[str]:
    """Embedding: rows of a table; indices beyond it are moved to its ends, as MXNet does."""
    return [rows(graph, inputs[1], inputs[0], 0, "clip")]


def take(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """take: slices of the first input, by the indices of the second."""
    axis = node.attributes.whole("axis", 0) % graph.rank(inputs[0])
    return [rows(graph, inputs[0], inputs[1], axis, node.attributes.text("mode", "clip"))]


def rows(graph: OnnxGraph, table: str, indices: str, axis: int, mode: str) -> str:
    """Slices of a table by indices that MXNet keeps as floats."""
    whole = graph.add("Cast", [indices], to=7)
    (size,) = graph.known(table, [axis])
    if mode == "wrap":
        whole = graph.add("Mod", [whole, graph.scalar(size, "int64")])
    elif mode == "clip":
        whole = graph.add("Clip", [whole, graph.scalar(0, "int64"), graph.scalar(size - 1, "int64")])
    else:
        raise ConversionFailed(f"mode {mode} cannot be converted, only clip and wrap")
    return graph.add("Gather", [table, whole], axis=axis)


OPS: dict[str, Op] = {
    "BatchNorm": batch_norm,
    "BatchNorm_v1": batch_norm,
    "Embedding": embedding,
    "FullyConnected": fully_connected,
    "InstanceNorm": instance_norm,
    "L2Normalization": l2_normalization,
    "LRN": lrn,
    "LayerNorm": layer_norm,
    "take": take,
}
