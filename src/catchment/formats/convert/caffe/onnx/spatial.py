"""Layers with sliding windows: convolution, pooling, crop."""

from __future__ import annotations

from catchment.errors import ConversionFailed
from catchment.formats.convert import onnx_parts
from catchment.formats.convert.caffe.blobs import convolution_blobs
from catchment.formats.convert.caffe.geometry import axis_of, convolution_window, pooling_window
from catchment.formats.convert.caffe.model import Layer
from catchment.formats.convert.caffe.onnx.op import Op
from catchment.formats.convert.onnx_graph import OnnxGraph


def convolution(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """Convolution and Deconvolution; several bottoms go through the same weights."""
    transposed = layer.type == "Deconvolution"
    params = layer.params.message("convolution_param")
    rank = graph.rank(bottoms[0])
    if params.whole("axis", 1) % rank != 1:
        raise ConversionFailed("convolution_param.axis must be 1")
    window = convolution_window(params, rank - 2)
    (channels,) = graph.known(bottoms[0], [1])
    weight, bias, groups = convolution_blobs(layer, channels, window.kernel, transposed=transposed)
    stored = graph.constant(weight, "weight")
    added = None if bias is None else graph.constant(bias, "bias")
    return [
        onnx_parts.convolution(graph, bottom, stored, added, window, groups, transposed=transposed)
        for bottom in bottoms
    ]


def pooling(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """MAX and AVE; places are rounded up, and Caffe's mean counts the padding but nothing behind it."""
    params = layer.params.message("pooling_param")
    kind = {"0": "MAX", "1": "AVE"}.get(params.text("pool", "MAX"), params.text("pool", "MAX"))
    if kind not in {"MAX", "AVE"}:
        raise ConversionFailed(f"pool: {kind} has no counterpart in ONNX")
    if len(layer.tops) != 1:
        raise ConversionFailed(
            "the second top of a Pooling layer (which value was the largest) cannot be converted"
        )
    if params.flag("global_pooling", False):
        return [onnx_parts.global_pool(graph, bottoms[0], largest=kind == "MAX")]
    window, extra = pooling_window(params, graph.known(bottoms[0], range(2, graph.rank(bottoms[0]))))
    if kind == "MAX":
        return [onnx_parts.max_pool(graph, bottoms[0], window, extra)]
    return [onnx_parts.average_pool(graph, bottoms[0], window, extra, counts_padding=True)]


def crop(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """The first bottom, cut to the second's size from `axis` on."""
    params = layer.params.message("crop_param")
    data, reference = bottoms
    rank = graph.rank(data)
    axis = axis_of(params.whole("axis", 2), rank, layer.name)
    axes = list(range(axis, rank))
    offsets = params.ints("offset") or [0]
    offsets = offsets * len(axes) if len(offsets) == 1 else offsets
    sizes, have = graph.known(reference, axes), graph.known(data, axes)
    ends = [start + size for start, size in zip(offsets, sizes, strict=True)]
    if any(start < 0 or end > size for start, end, size in zip(offsets, ends, have, strict=True)):
        raise ConversionFailed(f"cutting {sizes} at {offsets} out of {have} is not possible")
    return [graph.add("Slice", [data, graph.ints(offsets), graph.ints(ends), graph.ints(axes)])]


OPS: dict[str, Op] = {
    "Convolution": convolution,
    "ConvolutionDepthwise": convolution,
    "Crop": crop,
    "Deconvolution": convolution,
    "DepthwiseConvolution": convolution,
    "Pooling": pooling,
}
