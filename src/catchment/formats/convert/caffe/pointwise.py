"""Caffe's layers that work value by value, on arrays; formulas as in the layers' documentation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from catchment.formats.convert import arrays
from catchment.formats.convert.arrays import Array
from catchment.formats.convert.caffe.blobs import blob
from catchment.formats.convert.caffe.model import Layer


def _of(compute: Callable[[Array], Array]) -> Callable[[Layer, list[Array]], list[Array]]:
    return lambda _layer, bottoms: [compute(bottoms[0])]


def _relu(layer: Layer, bottoms: list[Array]) -> list[Array]:
    slope = layer.params.message("relu_param").number("negative_slope", 0.0)
    return [np.maximum(bottoms[0], 0) + slope * np.minimum(bottoms[0], 0)]


def _prelu(layer: Layer, bottoms: list[Array]) -> list[Array]:
    shared = layer.params.message("prelu_param").flag("channel_shared", False)
    slope = blob(layer, 0, (1,) if shared else (bottoms[0].shape[1],))
    slope = slope if shared else arrays.along(slope, 1, bottoms[0].ndim)
    return [np.maximum(bottoms[0], 0) + slope * np.minimum(bottoms[0], 0)]


def _elu(layer: Layer, bottoms: list[Array]) -> list[Array]:
    alpha = layer.params.message("elu_param").number("alpha", 1.0)
    return [np.where(bottoms[0] > 0, bottoms[0], alpha * np.expm1(np.minimum(bottoms[0], 0)))]


def _power(layer: Layer, bottoms: list[Array]) -> list[Array]:
    params = layer.params.message("power_param")
    inner = params.number("shift", 0.0) + params.number("scale", 1.0) * bottoms[0]
    return [inner ** params.number("power", 1.0)]


def _exp(layer: Layer, bottoms: list[Array]) -> list[Array]:
    params = layer.params.message("exp_param")
    base = params.number("base", -1.0)
    base = np.e if base == -1 else base
    return [base ** (params.number("shift", 0.0) + params.number("scale", 1.0) * bottoms[0])]


def _log(layer: Layer, bottoms: list[Array]) -> list[Array]:
    params = layer.params.message("log_param")
    base = params.number("base", -1.0)
    inner = params.number("shift", 0.0) + params.number("scale", 1.0) * bottoms[0]
    return [np.log(inner) / (1.0 if base == -1 else np.log(base))]


def _threshold(layer: Layer, bottoms: list[Array]) -> list[Array]:
    return [bottoms[0] > layer.params.message("threshold_param").number("threshold", 0.0)]


def _swish(layer: Layer, bottoms: list[Array]) -> list[Array]:
    return [bottoms[0] * arrays.sigmoid(layer.params.message("swish_param").number("beta", 1.0) * bottoms[0])]


POINTWISE: dict[str, Callable[[Layer, list[Array]], list[Array]]] = {
    "AbsVal": _of(np.abs),
    "BNLL": _of(lambda x: np.logaddexp(0, x)),
    "ELU": _elu,
    "Exp": _exp,
    "Log": _log,
    "PReLU": _prelu,
    "Power": _power,
    "ReLU": _relu,
    "ReLU6": _of(lambda x: np.clip(x, 0, 6)),
    "Sigmoid": _of(arrays.sigmoid),
    "Swish": _swish,
    "TanH": _of(np.tanh),
    "Threshold": _threshold,
}
