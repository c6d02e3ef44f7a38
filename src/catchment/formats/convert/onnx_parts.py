"""What several source formats need from ONNX: convolution, pooling, full connection, values per channel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.onnx_graph import OnnxGraph
from catchment.formats.convert.windows import Window


def convolution(
    graph: OnnxGraph,
    data: str,
    weight: str,
    bias: str | None,
    window: Window,
    groups: int,
    *,
    transposed: bool = False,
    output_padding: Sequence[int] = (),
) -> str:
    """Conv with a weight (out, in / groups, *kernel), or ConvTranspose with (in, out / groups, *kernel)."""
    extra = {"output_padding": list(output_padding)} if any(output_padding) else {}
    return graph.add(
        "ConvTranspose" if transposed else "Conv",
        [data, weight] + ([bias] if bias else []),
        kernel_shape=list(window.kernel),
        strides=list(window.stride),
        pads=window.pads,
        dilations=list(window.dilation),
        group=groups,
        **extra,
    )


def max_pool(graph: OnnxGraph, data: str, window: Window, extra: Sequence[int]) -> str:
    """The largest value of each window; `extra` rows are added behind."""
    return graph.add(
        "MaxPool",
        [data],
        kernel_shape=list(window.kernel),
        strides=list(window.stride),
        pads=[*window.begin, *_plus(window.end, extra)],
    )


def average_pool(
    graph: OnnxGraph,
    data: str,
    window: Window,
    extra: Sequence[int],
    *,
    counts_padding: bool,
) -> str:
    """The mean of each window. Padding counts as zeros or not at all; the `extra` rows behind never count.

    ONNX has one switch for both, so padding that counts becomes a node of its own where there are extra rows.
    """
    begin, end = window.begin, window.end
    if counts_padding and any(extra) and any(begin + end):
        data = zero_padding(graph, data, window.begin, window.end)
        begin = end = (0,) * len(begin)
    counted = counts_padding and not any(extra)
    return graph.add(
        "AveragePool",
        [data],
        kernel_shape=list(window.kernel),
        strides=list(window.stride),
        pads=[*begin, *_plus(end, extra)],
        count_include_pad=int(counted),
    )


def zero_padding(graph: OnnxGraph, data: str, begin: Sequence[int], end: Sequence[int]) -> str:
    """Zeros around the spatial dimensions."""
    outer = [0] * (graph.rank(data) - len(begin))
    return graph.add("Pad", [data, graph.ints([*outer, *begin, *outer, *end])])


def global_pool(graph: OnnxGraph, data: str, *, largest: bool) -> str:
    """One value for each channel."""
    return graph.add("GlobalMaxPool" if largest else "GlobalAveragePool", [data])


def linear(
    graph: OnnxGraph,
    data: str,
    weight: str,
    bias: str | None,
    *,
    axis: int = 1,
    transposed: bool = False,
) -> str:
    """data · weightᵀ + bias over all dimensions from `axis` on; the ones before stay.

    Args:
        graph: to add to.
        data: of any rank above `axis`.
        weight: (units, features), or (features, units) when `transposed`.
        bias: (units,) or None.
        axis: the first dimension that is summed over.
        transposed: see weight.
    """
    rank = graph.rank(data)
    axis = axis + rank if axis < 0 else axis
    if not 0 < axis < rank:
        raise ConversionFailed(f"a fully connected layer cannot begin at dimension {axis} of {rank}")
    features, units = graph.known(weight, [0, 1] if transposed else [1, 0])
    incoming = math.prod(graph.known(data, range(axis, rank)))
    if incoming != features:
        raise ConversionFailed(f"the weight is for {features} features, the input has {incoming}")
    flat = data if rank == 2 else graph.add("Flatten", [data], axis=axis)
    ends = axis == 1
    inputs = [flat, weight] + ([bias] if bias else [])
    result = graph.add("Gemm", inputs, transB=int(not transposed))
    if ends:
        return result
    # Only the batch in front may be free.
    free = not isinstance(graph.shape(data)[0], int)
    kept = [-1, *graph.known(data, range(1, axis))] if free else graph.known(data, range(axis))
    return graph.add("Reshape", [result, graph.ints([*kept, units])])


def along(graph: OnnxGraph, values: np.ndarray, axis: int, rank: int, hint: str = "values") -> str:
    """A constant whose dimensions stand at `axis` and after it, to be broadcast against that rank."""
    axis = axis + rank if axis < 0 else axis
    behind = rank - axis - values.ndim
    if axis < 0 or behind < 0:
        raise ConversionFailed(f"values of shape {list(values.shape)} do not fit at {axis} of {rank}")
    return graph.constant(values.reshape(values.shape + (1,) * behind), hint)


def reshaped_along(graph: OnnxGraph, tensor: str, axis: int, rank: int) -> str:
    """Like `along`, for a tensor that is computed."""
    axis = axis + rank if axis < 0 else axis
    behind = rank - axis - graph.rank(tensor)
    if axis < 0 or behind < 0:
        raise ConversionFailed(f"the shape {list(graph.shape(tensor))} does not fit at {axis} of {rank}")
    if behind == 0:
        return tensor
    axes = range(graph.rank(tensor), graph.rank(tensor) + behind)
    return graph.add("Unsqueeze", [tensor, graph.ints(list(axes))])


def scaled(graph: OnnxGraph, data: str, scale: float, shift: float) -> str:
    """data · scale + shift, without nodes for 1 and 0."""
    if scale != 1:
        data = graph.add("Mul", [data, graph.scalar(scale)])
    return graph.add("Add", [data, graph.scalar(shift)]) if shift != 0 else data


def _plus(first: Sequence[int], second: Sequence[int]) -> list[int]:
    return [a + b for a, b in zip(first, second, strict=True)]
