"""MXNet's operators with sliding windows: convolution, pooling, upsampling, padding."""

from __future__ import annotations

import math

from catchment.errors import ConversionFailed
from catchment.formats.convert import onnx_parts
from catchment.formats.convert.mxnet.attributes import Attributes
from catchment.formats.convert.mxnet.onnx.op import Op
from catchment.formats.convert.mxnet.symbol import Node
from catchment.formats.convert.onnx_graph import OnnxGraph
from catchment.formats.convert.windows import Window, spread

CHANNELS_FIRST = {"", "NCW", "NCHW", "NCDHW"}


def _window(attributes: Attributes, kernel: tuple[int, ...]) -> Window:
    rank = len(kernel)
    refuse_channels_last(attributes)
    pads = spread(attributes.numbers("pad", (0,)) or (0,), rank)
    strides = spread(attributes.numbers("stride", (1,)) or (1,), rank)
    return Window(kernel, strides, pads, pads, spread(attributes.numbers("dilate", (1,)) or (1,), rank))


def refuse_channels_last(attributes: Attributes) -> None:
    """Refuse layouts with the channels last.

    Raises:
        ConversionFailed: the layout is such a one.
    """
    if attributes.text("layout") not in CHANNELS_FIRST:
        raise ConversionFailed(f"layout {attributes.text('layout')} cannot be converted, only channels first")


def convolution(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Convolution over one, two or three dimensions."""
    window = _window(node.attributes, node.attributes.numbers("kernel"))
    bias = None if node.attributes.flag("no_bias") else inputs[2]
    groups = node.attributes.whole("num_group", 1)
    return [onnx_parts.convolution(graph, inputs[0], inputs[1], bias, window, groups)]


def deconvolution(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Deconvolution; target_shape stands above pad and adj. It has no bias unless told so."""
    attributes = node.attributes
    window = _window(attributes, attributes.numbers("kernel"))
    rank = len(window.kernel)
    adjust = spread(attributes.numbers("adj", (0,)) or (0,), rank)
    target = attributes.numbers("target_shape", ())
    if any(target):
        sizes = graph.known(inputs[0], range(2, 2 + rank))
        full = [
            (size - 1) * s + (k - 1) * d + 1
            for size, s, k, d in zip(sizes, window.stride, window.kernel, window.dilation, strict=True)
        ]
        cut = [have - want for have, want in zip(full, spread(target, rank), strict=True)]
        pads = tuple((each + 1) // 2 for each in cut)
        adjust = tuple(each % 2 for each in cut)
        window = Window(window.kernel, window.stride, pads, pads, window.dilation)
    bias = None if attributes.flag("no_bias", True) else inputs[2]
    groups = attributes.whole("num_group", 1)
    return [
        onnx_parts.convolution(
            graph, inputs[0], inputs[1], bias, window, groups, transposed=True, output_padding=adjust
        )
    ]


def pooling(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Pooling: max, avg, sum or lp; with the convention `full` places are rounded up."""
    attributes, data = node.attributes, inputs[0]
    kind = attributes.text("pool_type", "max")
    rank = graph.rank(data) - 2
    if attributes.flag("global_pool"):
        refuse_channels_last(attributes)
        return [_global(graph, data, kind, rank)]
    window = _window(attributes, attributes.numbers("kernel"))
    convention = attributes.text("pooling_convention", "valid")
    if convention not in {"valid", "full"}:
        raise ConversionFailed(f"pooling_convention {convention} cannot be converted, only valid and full")
    extra = (0,) * rank
    if convention == "full":
        extra = window.overhang(graph.known(data, range(2, 2 + rank)), clip=False)
    if kind == "max":
        return [onnx_parts.max_pool(graph, data, window, extra)]
    if kind == "avg":
        counted = attributes.flag("count_include_pad", True)
        return [onnx_parts.average_pool(graph, data, window, extra, counts_padding=counted)]
    ends = tuple(end + more for end, more in zip(window.end, extra, strict=True))
    data = onnx_parts.zero_padding(graph, data, window.begin, ends)
    window = Window(window.kernel, window.stride, (0,) * rank, (0,) * rank, window.dilation)
    data = _powers(graph, data, kind, attributes)
    means = onnx_parts.average_pool(graph, data, window, (0,) * rank, counts_padding=True)
    sums = onnx_parts.scaled(graph, means, float(math.prod(window.kernel)), 0.0)
    return [sums if kind == "sum" else graph.add("Sqrt", [sums])]


def _powers(graph: OnnxGraph, data: str, kind: str, attributes: Attributes) -> str:
    if kind == "sum":
        return data
    if kind != "lp" or attributes.whole("p_value", 2) != 2:
        raise ConversionFailed(
            f"pool_type {kind} cannot be converted; max, avg, sum and lp with p_value 2 can"
        )
    return graph.add("Mul", [data, data])


def _global(graph: OnnxGraph, data: str, kind: str, rank: int) -> str:
    if kind == "sum":
        return graph.add("ReduceSum", [data, graph.ints(range(2, 2 + rank))])
    if kind not in {"max", "avg"}:
        raise ConversionFailed(f"global pooling of the type {kind} cannot be converted")
    return onnx_parts.global_pool(graph, data, largest=kind == "max")


def upsampling(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """UpSampling: each value `scale` times, or by a trained bilinear kernel."""
    scale = node.attributes.whole("scale")
    if scale < 1:
        raise ConversionFailed(f"scale is {scale}, at least 1 is expected")
    kind = node.attributes.text("sample_type")
    if kind == "nearest" and len(inputs) == 1:
        return [resized(graph, inputs[0], [1.0, 1.0, scale, scale])]
    if kind != "bilinear":
        raise ConversionFailed("only nearest with one input and bilinear can be converted")
    (channels,) = graph.known(inputs[0], [1])
    size, pad = 2 * scale - scale % 2, math.ceil((scale - 1) / 2)
    window = Window((size, size), (scale, scale), (pad, pad), (pad, pad), (1, 1))
    return [onnx_parts.convolution(graph, inputs[0], inputs[1], None, window, channels, transposed=True)]


def resized(graph: OnnxGraph, data: str, factors: list[float]) -> str:
    """Each value repeated, by whole factors."""
    import numpy as np

    sizes = graph.constant(np.array(factors, np.float32), "scales")
    return graph.add(
        "Resize",
        [data, "", sizes],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def bilinear_resize(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """_contrib_BilinearResize2D to a height and width, corners on corners."""
    attributes = node.attributes
    if attributes.text("mode", "size") != "size" or len(inputs) != 1:
        raise ConversionFailed("only the mode size can be converted")
    scales = [attributes.has("scale_height"), attributes.has("scale_width")]
    batch_and_channels = graph.known(inputs[0], [0, 1])
    height, width = graph.known(inputs[0], [2, 3])
    if any(scales):
        sizes = [
            int(height * attributes.number("scale_height")),
            int(width * attributes.number("scale_width")),
        ]
    else:
        sizes = [attributes.whole("height"), attributes.whole("width")]
    wanted = graph.ints([*batch_and_channels, *sizes])
    mode = "align_corners" if attributes.flag("align_corners", True) else "half_pixel"
    return [
        graph.add("Resize", [inputs[0], "", "", wanted], mode="linear", coordinate_transformation_mode=mode)
    ]


def adaptive_average(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """_contrib_AdaptiveAvgPooling2D to sizes that divide the image's."""
    target = spread(node.attributes.numbers("output_size", (1,)) or (1,), 2)
    sizes = graph.known(inputs[0], [2, 3])
    if any(want < 1 or have % want for have, want in zip(sizes, target, strict=True)):
        raise ConversionFailed(f"an image of {sizes} has no equal windows for {list(target)} means")
    kernel = tuple(have // want for have, want in zip(sizes, target, strict=True))
    window = Window(kernel, kernel, (0, 0), (0, 0), (1, 1))
    return [onnx_parts.average_pool(graph, inputs[0], window, (0, 0), counts_padding=False)]


def pad(graph: OnnxGraph, node: Node, inputs: list[str]) -> list[str]:
    """Pad with a constant, the edge, or the mirrored image."""
    widths = node.attributes.numbers("pad_width")
    mode = node.attributes.text("mode", "constant")
    if mode not in {"constant", "edge", "reflect"} or len(widths) != 2 * graph.rank(inputs[0]):
        raise ConversionFailed(f"pad_width {list(widths)} in the mode {mode} cannot be converted")
    pads = graph.ints([*widths[0::2], *widths[1::2]])
    value = graph.scalar(node.attributes.number("constant_value", 0.0))
    return [graph.add("Pad", [inputs[0], pads, value], mode=mode)]


OPS: dict[str, Op] = {
    "Convolution": convolution,
    "Convolution_v1": convolution,
    "Deconvolution": deconvolution,
    "Pad": pad,
    "Pooling": pooling,
    "Pooling_v1": pooling,
    "UpSampling": upsampling,
    "_contrib_AdaptiveAvgPooling2D": adaptive_average,
    "_contrib_BilinearResize2D": bilinear_resize,
    "pad": pad,
}
