"""A layer's trained parameters in the shapes that its kind needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.caffe.model import Layer
from catchment.formats.convert.dimensions import shaped


def blob(layer: Layer, index: int, shape: Sequence[int] | None = None) -> np.ndarray:
    """Blob number `index`; of `shape`, or as stored.

    Raises:
        ConversionFailed: the caffemodel has no such blob, or it has another number of values.
    """
    if index >= len(layer.blobs):
        raise ConversionFailed(
            f"the caffemodel has {len(layer.blobs)} blobs for the layer '{layer.name}' ({layer.type}), "
            f"number {index} is missing; do both files belong together?"
        )
    found = layer.blobs[index]
    return shaped(
        found.values, found.shape if shape is None else shape, f"blob {index} of the layer '{layer.name}'"
    )


def scalar_blob(layer: Layer, index: int) -> float:
    """A blob of one value."""
    return float(blob(layer, index, (1,))[0])


def batch_statistics(layer: Layer, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of a BatchNorm layer; the file holds sums, and what to divide them by."""
    factor = scalar_blob(layer, 2)
    factor = 0.0 if factor == 0 else 1.0 / factor
    mean, variance = (blob(layer, index, (channels,)) * np.float32(factor) for index in (0, 1))
    return mean, variance


def convolution_blobs(
    layer: Layer, channels: int, kernel: Sequence[int], *, transposed: bool
) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Weight, bias and groups of a Convolution or Deconvolution over that many channels."""
    params = layer.params.message("convolution_param")
    units, groups = params.whole("num_output"), params.whole("group", 1)
    if layer.type in {"DepthwiseConvolution", "ConvolutionDepthwise"}:
        groups = channels
    if groups < 1 or channels % groups or units % groups:
        raise ConversionFailed(f"{channels} channels and {units} outputs do not divide into {groups} groups")
    first, second = (channels, units) if transposed else (units, channels)
    weight = blob(layer, 0, (first, second // groups, *kernel))
    bias = blob(layer, 1, (units,)) if params.flag("bias_term", True) else None
    return weight, bias, groups
