"""Layers that normalise, softmax, and the fully connected ones."""

from __future__ import annotations

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert import onnx_parts
from catchment.formats.convert.caffe.blobs import batch_statistics, blob
from catchment.formats.convert.caffe.geometry import axis_of
from catchment.formats.convert.caffe.model import Layer
from catchment.formats.convert.caffe.onnx.op import Op
from catchment.formats.convert.onnx_graph import OnnxGraph
from catchment.formats.convert.windows import Window


def inner_product(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """x · Wᵀ + b over all dimensions from `axis` on."""
    params = layer.params.message("inner_product_param")
    rank = graph.rank(bottoms[0])
    axis = axis_of(params.whole("axis", 1), rank, layer.name)
    features = int(np.prod(graph.known(bottoms[0], range(axis, rank))))
    units, transposed = params.whole("num_output"), params.flag("transpose", False)
    weight = blob(layer, 0, (features, units) if transposed else (units, features))
    bias = graph.constant(blob(layer, 1, (units,)), "bias") if params.flag("bias_term", True) else None
    stored = graph.constant(weight, "weight")
    return [onnx_parts.linear(graph, bottoms[0], stored, bias, axis=axis, transposed=transposed)]


def embed(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """Rows of a table, by indices that Caffe keeps as floats."""
    params = layer.params.message("embed_param")
    table = graph.constant(blob(layer, 0, (params.whole("input_dim"), params.whole("num_output"))), "weight")
    rows = graph.add("Gather", [table, graph.add("Cast", bottoms, to=7)])
    if not params.flag("bias_term", True):
        return [rows]
    return [graph.add("Add", [rows, graph.constant(blob(layer, 1, (params.whole("num_output"),)), "bias")])]


def batch_norm(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """(x - mean) / sqrt(variance + eps) with stored statistics; the Scale layer behind has the rest."""
    params = layer.params.message("batch_norm_param")
    if not params.flag("use_global_stats", True):
        raise ConversionFailed(
            "use_global_stats: false takes each batch's own statistics, which is no inference"
        )
    (channels,) = graph.known(bottoms[0], [1])
    mean, variance = batch_statistics(layer, channels)
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    names = [
        graph.constant(v, n) for v, n in ((ones, "scale"), (zeros, "bias"), (mean, "mean"), (variance, "var"))
    ]
    return [graph.add("BatchNormalization", [bottoms[0], *names], epsilon=params.number("eps", 1e-5))]


def lrn(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """Local response normalisation across channels, or over squares of the image."""
    params = layer.params.message("lrn_param")
    size, alpha, beta = (
        params.whole("local_size", 5),
        params.number("alpha", 1.0),
        params.number("beta", 0.75),
    )
    if size < 1 or size % 2 == 0:
        raise ConversionFailed(f"lrn_param.local_size is {size}, an odd number is expected")
    if params.text("norm_region", "ACROSS_CHANNELS") in {"ACROSS_CHANNELS", "0"}:
        return [graph.add("LRN", bottoms, size=size, alpha=alpha, beta=beta, bias=params.number("k", 1.0))]
    half = (size // 2,) * 2
    window = Window((size, size), (1, 1), half, half, (1, 1))
    squares = graph.add("Mul", [bottoms[0], bottoms[0]])
    means = onnx_parts.average_pool(graph, squares, window, (0, 0), counts_padding=True)
    divisor = graph.add("Pow", [onnx_parts.scaled(graph, means, alpha, 1.0), graph.scalar(beta)])
    return [graph.add("Div", [bottoms[0], divisor])]


def softmax(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """Softmax along one dimension, by default the channels."""
    axis = axis_of(layer.params.message("softmax_param").whole("axis", 1), graph.rank(bottoms[0]), layer.name)
    return [graph.add("Softmax", bottoms, axis=axis)]


def mvn(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """(x - mean) / (standard deviation + eps) of each image, or of each of its channels."""
    params = layer.params.message("mvn_param")
    axes = list(range(1 if params.flag("across_channels", False) else 2, graph.rank(bottoms[0])))
    centred = graph.add("Sub", [bottoms[0], graph.add("ReduceMean", bottoms, axes=axes)])
    if not params.flag("normalize_variance", True):
        return [centred]
    variance = graph.add("ReduceMean", [graph.add("Mul", [centred, centred])], axes=axes)
    deviation = graph.add("Add", [graph.add("Sqrt", [variance]), graph.scalar(params.number("eps", 1e-9))])
    return [graph.add("Div", [centred, deviation])]


def normalize(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """x / sqrt(sum of squares + eps) · scale, of SSD: over channels at each place, or the whole image."""
    params = layer.params.message("norm_param")
    rank = graph.rank(bottoms[0])
    axes = graph.ints(range(1, rank) if params.flag("across_spatial", True) else [1])
    squares = graph.add("ReduceSum", [graph.add("Mul", [bottoms[0], bottoms[0]]), axes])
    root = graph.add("Sqrt", [onnx_parts.scaled(graph, squares, 1.0, params.number("eps", 1e-10))])
    shared = params.flag("channel_shared", True)
    scale = blob(layer, 0, (1,) if shared else graph.known(bottoms[0], [1]))
    factor = onnx_parts.along(graph, scale, rank - 1 if shared else 1, rank, "scale")
    return [graph.add("Mul", [graph.add("Div", [bottoms[0], root]), factor])]


OPS: dict[str, Op] = {
    "BatchNorm": batch_norm,
    "Embed": embed,
    "InnerProduct": inner_product,
    "LRN": lrn,
    "MVN": mvn,
    "Normalize": normalize,
    "Softmax": softmax,
}
