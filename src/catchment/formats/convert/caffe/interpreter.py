"""Caffe networks on arrays, straight from the layers' documentation, to compare with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from catchment.formats.convert import arrays
from catchment.formats.convert.arrays import Array
from catchment.formats.convert.caffe.blobs import batch_statistics, blob, convolution_blobs
from catchment.formats.convert.caffe.geometry import convolution_window, pooling_window
from catchment.formats.convert.caffe.model import Layer, Net
from catchment.formats.convert.caffe.pointwise import POINTWISE
from catchment.formats.convert.caffe.reshape import reshaped, slice_sizes
from catchment.formats.convert.steps import refuse_unsupported, step
from catchment.formats.convert.windows import Window

Compute = Callable[[Layer, list[Array]], list[Array]]


def run(net: Net, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The network's outputs for these inputs.

    Raises:
        ConversionFailed: a layer is not known, or its blobs do not fit.
    """
    refuse_unsupported([(each.name, each.type) for each in net.layers], {*LAYERS, "Silence"}, "layer")
    blobs = {name: np.asarray(feeds[name], np.float32) for name in net.inputs}
    for layer in net.layers:
        if layer.type != "Silence":
            with step("layer", layer.name, layer.type), np.errstate(all="ignore"):
                tops = LAYERS[layer.type](layer, [blobs[bottom] for bottom in layer.bottoms])
                blobs.update({n: np.asarray(v, np.float32) for n, v in zip(layer.tops, tops, strict=True)})
    return {name: blobs[name] for name in net.outputs}


def _convolution(layer: Layer, bottoms: list[Array]) -> list[Array]:
    transposed = layer.type == "Deconvolution"
    window = convolution_window(layer.params.message("convolution_param"), bottoms[0].ndim - 2)
    parts = convolution_blobs(layer, bottoms[0].shape[1], window.kernel, transposed=transposed)
    compute = arrays.deconvolve if transposed else arrays.convolve
    return [compute(each, parts[0], parts[1], window, parts[2]) for each in bottoms]


def _pooling(layer: Layer, bottoms: list[Array]) -> list[Array]:
    params = layer.params.message("pooling_param")
    window, overhang = pooling_window(params, bottoms[0].shape[2:])
    if params.text("pool", "MAX") in {"MAX", "0"}:
        return [arrays.max_pool(bottoms[0], window, overhang)]
    return [arrays.average_pool(bottoms[0], window, overhang, counts_padding=True)]


def _inner_product(layer: Layer, bottoms: list[Array]) -> list[Array]:
    params = layer.params.message("inner_product_param")
    axis, units = params.whole("axis", 1) % bottoms[0].ndim, params.whole("num_output")
    kept = bottoms[0].shape[:axis]
    flat = bottoms[0].reshape(*kept, -1)
    features = flat.shape[-1]
    weight = (
        blob(layer, 0, (features, units))
        if params.flag("transpose", False)
        else blob(layer, 0, (units, features)).T
    )
    return [flat @ weight + (blob(layer, 1, (units,)) if params.flag("bias_term", True) else 0)]


def _batch_norm(layer: Layer, bottoms: list[Array]) -> list[Array]:
    mean, variance = (
        arrays.along(each, 1, bottoms[0].ndim) for each in batch_statistics(layer, bottoms[0].shape[1])
    )
    return [
        (bottoms[0] - mean) / np.sqrt(variance + layer.params.message("batch_norm_param").number("eps", 1e-5))
    ]


def _scale(layer: Layer, bottoms: list[Array]) -> list[Array]:
    biased = layer.type == "Bias"
    params = layer.params.message("bias_param" if biased else "scale_param")
    data, rank = bottoms[0], bottoms[0].ndim
    axis, computed = params.whole("axis", 1) % rank, len(bottoms) > 1
    count = bottoms[1].ndim if computed else params.whole("num_axes", 1)
    shape = data.shape[axis : rank if count == -1 else axis + count]
    values = arrays.along(bottoms[1] if computed else blob(layer, 0, shape), axis, rank)
    result = data + values if biased else data * values
    if not biased and params.flag("bias_term", False):
        result = result + arrays.along(blob(layer, 0 if computed else 1, shape), axis, rank)
    return [result]


def _lrn(layer: Layer, bottoms: list[Array]) -> list[Array]:
    params = layer.params.message("lrn_param")
    size, alpha, beta = (
        params.whole("local_size", 5),
        params.number("alpha", 1.0),
        params.number("beta", 0.75),
    )
    if params.text("norm_region", "ACROSS_CHANNELS") in {"ACROSS_CHANNELS", "0"}:
        return [arrays.lrn(bottoms[0], size, alpha, beta, params.number("k", 1.0))]
    half = (size // 2,) * 2
    means = arrays.average_pool(
        bottoms[0] ** 2, Window((size, size), (1, 1), half, half, (1, 1)), (0, 0), counts_padding=True
    )
    return [bottoms[0] * (1 + alpha * means) ** -beta]


def _eltwise(layer: Layer, bottoms: list[Array]) -> list[Array]:
    params = layer.params.message("eltwise_param")
    kind = params.text("operation", "SUM")
    if kind in {"PROD", "0"}:
        return [np.prod(bottoms, axis=0)]
    if kind in {"MAX", "2"}:
        return [np.max(bottoms, axis=0)]
    factors = params.floats("coeff") or [1.0] * len(bottoms)
    return [sum((f * b for f, b in zip(factors, bottoms, strict=True)), np.zeros_like(bottoms[0]))]


def _slice(layer: Layer, bottoms: list[Array]) -> list[Array]:
    params = layer.params.message("slice_param")
    axis = params.whole("slice_dim") if params.has("slice_dim") else params.whole("axis", 1)
    sizes = slice_sizes(bottoms[0].shape[axis], params.ints("slice_point"), len(layer.tops))
    return np.split(bottoms[0], np.cumsum(sizes)[:-1], axis)


def _concat(layer: Layer, bottoms: list[Array]) -> list[Array]:
    params = layer.params.message("concat_param")
    axis = params.whole("concat_dim") if params.has("concat_dim") else params.whole("axis", 1)
    return [np.concatenate(bottoms, axis)]


def _flatten(layer: Layer, bottoms: list[Array]) -> list[Array]:
    params, shape = layer.params.message("flatten_param"), bottoms[0].shape
    first, last = params.whole("axis", 1) % len(shape), params.whole("end_axis", -1) % len(shape)
    return [bottoms[0].reshape(*shape[:first], -1, *shape[last + 1 :])]


def _reshape(layer: Layer, bottoms: list[Array]) -> list[Array]:
    return [bottoms[0].reshape([dim for dim in reshaped(layer, bottoms[0].shape) if isinstance(dim, int)])]


def _softmax(layer: Layer, bottoms: list[Array]) -> list[Array]:
    return [arrays.softmax(bottoms[0], layer.params.message("softmax_param").whole("axis", 1))]


def _lstm(layer: Layer, bottoms: list[Array]) -> list[Array]:
    units = layer.params.message("recurrent_param").whole("num_output")
    data, cont = bottoms[0].reshape(*bottoms[0].shape[:2], -1), bottoms[1]
    projected = data @ blob(layer, 0, (4 * units, data.shape[2])).T + blob(layer, 1, (4 * units,))
    weight = blob(layer, 2, (4 * units, units)).T
    hidden = cell = np.zeros((data.shape[1], units), np.float32)
    found = []
    for at in range(len(data)):
        kept = cont[at][:, None]
        ((hidden, cell),) = arrays.lstm(
            projected[at : at + 1], hidden * kept, cell * kept, lambda h: h @ weight
        )
        found.append(hidden)
    return [np.stack(found)]


def _same(layer: Layer, bottoms: list[Array]) -> list[Array]:
    return [bottoms[0]] * len(layer.tops)


LAYERS: dict[str, Compute] = {
    **POINTWISE,
    "BatchNorm": _batch_norm,
    "Bias": _scale,
    "Concat": _concat,
    "Convolution": _convolution,
    "Deconvolution": _convolution,
    "Dropout": _same,
    "Eltwise": _eltwise,
    "Flatten": _flatten,
    "InnerProduct": _inner_product,
    "LRN": _lrn,
    "LSTM": _lstm,
    "Pooling": _pooling,
    "Reshape": _reshape,
    "Scale": _scale,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _same,
}
