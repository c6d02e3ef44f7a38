"""Caffe2's operators with sliding windows, and those that stretch or pad images."""

from __future__ import annotations

from functools import partial

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert import onnx_parts
from catchment.formats.convert.netdef.geometry import refuse_channels_last, transposed_window, window
from catchment.formats.convert.netdef.model import Operator
from catchment.formats.convert.netdef.onnx.op import Op
from catchment.formats.convert.onnx_graph import OnnxGraph


def convolution(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """Conv."""
    sizes = graph.known(inputs[0], range(2, graph.rank(inputs[0])))
    found, extra = window(op.arguments, sizes)
    if any(extra):
        raise ConversionFailed("legacy_pad 3 cannot be converted for a convolution")
    bias = inputs[2] if len(inputs) > 2 else None
    return [onnx_parts.convolution(graph, inputs[0], inputs[1], bias, found, op.arguments.whole("group", 1))]


def transposed(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """ConvTranspose."""
    found, adjust = transposed_window(op.arguments, graph.rank(inputs[0]) - 2)
    bias, groups = inputs[2] if len(inputs) > 2 else None, op.arguments.whole("group", 1)
    return [
        onnx_parts.convolution(
            graph, inputs[0], inputs[1], bias, found, groups, transposed=True, output_padding=adjust
        )
    ]


def pool(largest: bool, graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """MaxPool and AveragePool; legacy_pad 3 rounds the places up, as Caffe does."""
    refuse_channels_last(op.arguments)
    if op.arguments.whole("global_pooling", 0):
        return [onnx_parts.global_pool(graph, inputs[0], largest=largest)]
    found, extra = window(op.arguments, graph.known(inputs[0], range(2, graph.rank(inputs[0]))))
    if largest:
        return [onnx_parts.max_pool(graph, inputs[0], found, extra)]
    counted = bool(op.arguments.whole("count_include_pad", 0))
    if counted and any(extra):
        raise ConversionFailed("count_include_pad together with legacy_pad 3 cannot be converted")
    return [onnx_parts.average_pool(graph, inputs[0], found, extra, counts_padding=counted)]


def pad_image(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """PadImage: a constant, the edge, or the mirrored image."""
    refuse_channels_last(op.arguments)
    pads = op.arguments.wholes("pads") or [op.arguments.whole("pad", 0)] * 4
    mode = op.arguments.text("mode", "constant")
    if mode not in {"constant", "edge", "reflect"} or len(pads) != 4:
        raise ConversionFailed(f"pads {pads} in the mode {mode} cannot be converted")
    places = graph.ints([0, 0, *pads[:2], 0, 0, *pads[2:]])
    value = graph.scalar(op.arguments.number("value", 0.0))
    return [graph.add("Pad", [inputs[0], places, value], mode=mode)]


def resize_nearest(graph: OnnxGraph, op: Operator, inputs: list[str]) -> list[str]:
    """ResizeNearest: the value at the place divided by the scale."""
    refuse_channels_last(op.arguments)
    height, width = (op.arguments.number(f"{side}_scale", 1.0) for side in ("height", "width"))
    scales = graph.constant(np.array([1, 1, height, width], np.float32), "scales")
    return [
        graph.add(
            "Resize",
            [inputs[0], "", scales],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    ]


OPS: dict[str, Op] = {
    **{f"AveragePool{rank}": partial(pool, False) for rank in ("", "1D", "2D", "3D")},
    **{f"Conv{rank}": convolution for rank in ("", "1D", "2D", "3D")},
    **{f"MaxPool{rank}": partial(pool, True) for rank in ("", "1D", "2D", "3D")},
    "ConvTranspose": transposed,
    "PadImage": pad_image,
    "ResizeNearest": resize_nearest,
}
