"""Caffe2's operators that move, join or cut values, on arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from catchment.formats.convert.arrays import Array
from catchment.formats.convert.netdef.geometry import concat_axis, slice_ends
from catchment.formats.convert.netdef.model import Operator

Compute = Callable[[Operator, list[Array]], list[Array]]


def _concat(op: Operator, inputs: list[Array]) -> list[Array]:
    if op.arguments.whole("add_axis", 0):
        return [np.stack(inputs, op.arguments.whole("axis", 1))]
    axis = concat_axis(op.arguments, inputs[0].ndim)
    return [np.concatenate(inputs, axis), np.array([each.shape[axis] for each in inputs], np.int32)]


def _split(op: Operator, inputs: list[Array]) -> list[Array]:
    axis = concat_axis(op.arguments, inputs[0].ndim)
    sizes = [int(each) for each in inputs[1]] if len(inputs) > 1 else op.arguments.wholes("split")
    return np.split(inputs[0], np.cumsum(sizes)[:-1] if sizes else len(op.outputs), axis)


def _reshape(op: Operator, inputs: list[Array]) -> list[Array]:
    wanted = [int(each) for each in inputs[1]] if len(inputs) > 1 else op.arguments.wholes("shape")
    shape = [inputs[0].shape[at] if dim == 0 else dim for at, dim in enumerate(wanted)]
    return [inputs[0].reshape(shape), np.array(inputs[0].shape, np.int64)]


def _flatten(op: Operator, inputs: list[Array]) -> list[Array]:
    axis = op.arguments.whole("axis", 1)
    return [inputs[0].reshape(int(np.prod(inputs[0].shape[:axis])), -1)]


def _transpose(op: Operator, inputs: list[Array]) -> list[Array]:
    if op.type == "NCHW2NHWC":
        return [np.moveaxis(inputs[0], 1, -1)]
    if op.type == "NHWC2NCHW":
        return [np.moveaxis(inputs[0], -1, 1)]
    return [inputs[0].transpose(op.arguments.wholes("axes") or None)]


def _slice(op: Operator, inputs: list[Array]) -> list[Array]:
    given = len(inputs) > 1
    starts = [int(each) for each in inputs[1]] if given else op.arguments.wholes("starts")
    ends = [int(each) for each in inputs[2]] if given else op.arguments.wholes("ends")
    ends = slice_ends(ends, inputs[0].shape[: len(ends)])
    return [inputs[0][tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))]]


def _tile(op: Operator, inputs: list[Array]) -> list[Array]:
    counts = [1] * inputs[0].ndim
    counts[op.arguments.whole("axis", 0)] = op.arguments.whole("tiles", 1)
    return [np.tile(inputs[0], counts)]


def _shuffle(op: Operator, inputs: list[Array]) -> list[Array]:
    count, channels, *image = inputs[0].shape
    groups = op.arguments.whole("group", 1)
    apart = inputs[0].reshape(count, groups, channels // groups, *image)
    return [apart.swapaxes(1, 2).reshape(inputs[0].shape)]


def _pad(op: Operator, inputs: list[Array]) -> list[Array]:
    pads = op.arguments.wholes("pads") or [op.arguments.whole("pad", 0)] * 4
    borders = [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])]
    mode = op.arguments.text("mode", "constant")
    if mode == "constant":
        return [np.pad(inputs[0], borders, constant_values=op.arguments.number("value", 0.0))]
    return [np.pad(inputs[0], borders, mode="edge" if mode == "edge" else "reflect")]


def _resize(op: Operator, inputs: list[Array]) -> list[Array]:
    scales = [op.arguments.number(f"{side}_scale", 1.0) for side in ("height", "width")]
    data = inputs[0]
    for axis, scale in zip((2, 3), scales, strict=True):
        size = data.shape[axis]
        places = np.floor(np.arange(int(size * scale)) / scale).astype(int)
        data = data.take(np.minimum(places, size - 1), axis)
    return [data]


MOVED: dict[str, Compute] = {
    "ChannelShuffle": _shuffle,
    "Concat": _concat,
    "DepthConcat": _concat,
    "ExpandDims": lambda op, inputs: [np.expand_dims(inputs[0], tuple(op.arguments.wholes("dims")))],
    "Flatten": _flatten,
    "FlattenToVec": lambda _, inputs: [inputs[0].ravel()],
    "Gather": lambda op, inputs: [inputs[0].take(inputs[1], op.arguments.whole("axis", 0))],
    "NCHW2NHWC": _transpose,
    "NHWC2NCHW": _transpose,
    "PadImage": _pad,
    "Reshape": _reshape,
    "ResizeNearest": _resize,
    "Shape": lambda _, inputs: [np.array(inputs[0].shape, np.int64)],
    "Slice": _slice,
    "Split": _split,
    "Squeeze": lambda op, inputs: [np.squeeze(inputs[0], tuple(op.arguments.wholes("dims")))],
    "Tile": _tile,
    "Transpose": _transpose,
}
