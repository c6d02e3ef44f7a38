"""Caffe2's operators that compute, on arrays, by the formulas of their documentation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from catchment.formats.convert import arrays
from catchment.formats.convert.arrays import Array
from catchment.formats.convert.netdef.fills import DTYPES, FILLS, fill
from catchment.formats.convert.netdef.geometry import broadcast_axis, transposed_window, window
from catchment.formats.convert.netdef.model import Operator
from catchment.formats.convert.netdef.pointwise import POINTWISE, SAME

Compute = Callable[[Operator, list[Array]], list[Array]]

BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Div": np.divide,
    "EQ": np.equal,
    "GE": np.greater_equal,
    "GT": np.greater,
    "LE": np.less_equal,
    "LT": np.less,
    "Mul": np.multiply,
    "Sub": np.subtract,
}


def _convolution(op: Operator, inputs: list[Array]) -> list[Array]:
    found, _ = window(op.arguments, inputs[0].shape[2:])
    bias = inputs[2] if len(inputs) > 2 else None
    return [arrays.convolve(inputs[0], inputs[1], bias, found, op.arguments.whole("group", 1))]


def _transposed(op: Operator, inputs: list[Array]) -> list[Array]:
    found, adjust = transposed_window(op.arguments, inputs[0].ndim - 2)
    bias, groups = inputs[2] if len(inputs) > 2 else None, op.arguments.whole("group", 1)
    return [arrays.deconvolve(inputs[0], inputs[1], bias, found, groups, adjust)]


def _pool(op: Operator, inputs: list[Array]) -> list[Array]:
    data = inputs[0]
    if op.arguments.whole("global_pooling", 0):
        axes = tuple(range(2, data.ndim))
        compute = np.max if op.type.startswith("Max") else np.mean
        return [compute(data, axis=axes, keepdims=True)]
    found, extra = window(op.arguments, data.shape[2:])
    if op.type.startswith("Max"):
        return [arrays.max_pool(data, found, extra)]
    counted = bool(op.arguments.whole("count_include_pad", 0))
    return [arrays.average_pool(data, found, extra, counts_padding=counted)]


def _fully_connected(op: Operator, inputs: list[Array]) -> list[Array]:
    data, weight, bias = inputs
    axis = op.arguments.whole("axis", 1) % data.ndim
    flat = data.reshape(*data.shape[:axis], -1)
    if op.type == "FCTransposed":
        return [flat @ weight + bias]
    axis_w = op.arguments.whole("axis_w", 1) % weight.ndim
    return [flat @ weight.reshape(math.prod(weight.shape[:axis_w]), -1).T + bias]


def _matmul(op: Operator, inputs: list[Array]) -> list[Array]:
    first, second = (
        each.swapaxes(-1, -2) if op.arguments.whole(name, 0) else each
        for name, each in zip(("trans_a", "trans_b"), inputs, strict=True)
    )
    return [first @ second]


def _binary(op: Operator, inputs: list[Array]) -> list[Array]:
    first, second = inputs
    axis = broadcast_axis(op.arguments, first.ndim, second.ndim)
    return [BINARY[op.type](first, second if axis is None else arrays.along(second, axis, first.ndim))]


def _spatial_bn(op: Operator, inputs: list[Array]) -> list[Array]:
    data, *rest = inputs
    scale, bias, mean, variance = (arrays.along(each, 1, data.ndim) for each in rest)
    return [(data - mean) / np.sqrt(variance + op.arguments.number("epsilon", 1e-5)) * scale + bias]


def _affine(_op: Operator, inputs: list[Array]) -> list[Array]:
    scale, bias = (arrays.along(each, 1, inputs[0].ndim) for each in inputs[1:])
    return [inputs[0] * scale + bias]


def _instance_norm(op: Operator, inputs: list[Array]) -> list[Array]:
    scale, bias = (arrays.along(each, 1, inputs[0].ndim) for each in inputs[1:])
    return [_normal(inputs[0], tuple(range(2, inputs[0].ndim)), op) * scale + bias]


def _layer_norm(op: Operator, inputs: list[Array]) -> list[Array]:
    axis = op.arguments.whole("axis", 1) % inputs[0].ndim
    found = _normal(inputs[0], tuple(range(axis, inputs[0].ndim)), op)
    return [found * inputs[1] + inputs[2] if op.arguments.whole("elementwise_affine", 0) else found]


def _normal(data: Array, axes: tuple[int, ...], op: Operator) -> Array:
    centred = data - data.mean(axes, keepdims=True)
    variance = (centred**2).mean(axes, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + op.arguments.number("epsilon", 1e-5)))


def _lrn(op: Operator, inputs: list[Array]) -> list[Array]:
    alpha, beta = op.arguments.number("alpha", 0.0), op.arguments.number("beta", 0.0)
    return [
        arrays.lrn(inputs[0], op.arguments.whole("size", 0), alpha, beta, op.arguments.number("bias", 1.0))
    ]


def _softmax(op: Operator, inputs: list[Array]) -> list[Array]:
    axis = op.arguments.whole("axis", 1) % inputs[0].ndim
    flat = inputs[0].reshape(math.prod(inputs[0].shape[:axis]), -1)
    return [arrays.softmax(flat, 1).reshape(inputs[0].shape)]


def _normalize(op: Operator, inputs: list[Array]) -> list[Array]:
    norm = np.sqrt((inputs[0] ** 2).sum(op.arguments.whole("axis", -1), keepdims=True))
    return [inputs[0] / np.maximum(norm, 1e-12)]


def _prelu(_op: Operator, inputs: list[Array]) -> list[Array]:
    data, slope = inputs
    slope = slope if slope.size == 1 else arrays.along(slope, 1, data.ndim)
    return [np.maximum(data, 0) + slope * np.minimum(data, 0)]


def _leaky(op: Operator, inputs: list[Array]) -> list[Array]:
    return [np.where(inputs[0] < 0, op.arguments.number("alpha", 0.01) * inputs[0], inputs[0])]


def _elu(op: Operator, inputs: list[Array]) -> list[Array]:
    below = op.arguments.number("alpha", 1.0) * np.expm1(np.minimum(inputs[0], 0))
    return [np.where(inputs[0] < 0, below, inputs[0])]


def _clip(op: Operator, inputs: list[Array]) -> list[Array]:
    return [np.clip(inputs[0], op.arguments.number("min", -np.inf), op.arguments.number("max", np.inf))]


def _power(op: Operator, inputs: list[Array]) -> list[Array]:
    return [inputs[0] ** (inputs[1] if len(inputs) > 1 else op.arguments.number("exponent"))]


def _reduced(compute: Callable[..., Array]) -> Compute:
    def reduce(op: Operator, inputs: list[Array]) -> list[Array]:
        axes, kept = op.arguments.wholes("axes"), bool(op.arguments.whole("keepdims", 1))
        every = list(range(inputs[0].ndim))
        if op.type.startswith("ReduceBack"):
            axes, kept = every[-op.arguments.whole("num_reduce_dim", 1) :], False
        return [compute(inputs[0], axis=tuple(axes or every), keepdims=kept)]

    return reduce


def _extreme(op: Operator, inputs: list[Array]) -> list[Array]:
    compute = np.argmax if op.type == "ArgMax" else np.argmin
    kept = bool(op.arguments.whole("keepdims", 1))
    return [compute(inputs[0], axis=op.arguments.whole("axis", -1), keepdims=kept)]


def _of(compute: Callable[[list[Array]], Array]) -> Compute:
    return lambda _op, inputs: [compute(inputs)]


def _first(compute: Callable[[Array], Array]) -> Compute:
    return lambda _op, inputs: [compute(inputs[0])]


COMPUTED: dict[str, Compute] = {
    **{name: _first(formula) for name, (_, formula) in POINTWISE.items()},
    **dict.fromkeys(SAME, _of(lambda each: each[0])),
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(FILLS, lambda op, _: [fill(op.type, op.arguments, op.outputs[0])]),
    **{f"{kind}{rank}": _pool for kind in ("AveragePool", "MaxPool") for rank in ("", "1D", "2D", "3D")},
    **{f"Conv{rank}": _convolution for rank in ("", "1D", "2D", "3D")},
    **{
        f"Reduce{back}{kind}": _reduced(f)
        for back in ("", "Back")
        for kind, f in (("Max", np.max), ("Mean", np.mean), ("Sum", np.sum))
    },
    "AffineChannel": _affine,
    "ArgMax": _extreme,
    "ArgMin": _extreme,
    "BatchMatMul": _matmul,
    "Cast": lambda op, inputs: [inputs[0].astype(DTYPES[op.arguments.whole("to")])],
    "Clip": _clip,
    "ConvTranspose": _transposed,
    "Dropout": _of(lambda each: each[0]),
    "Elu": _elu,
    "FC": _fully_connected,
    "FCTransposed": _fully_connected,
    "InstanceNorm": _instance_norm,
    "LRN": _lrn,
    "LayerNorm": _layer_norm,
    "LeakyRelu": _leaky,
    "MatMul": _matmul,
    "Max": _of(lambda each: np.max(each, axis=0)),
    "Mean": _of(lambda each: np.mean(each, axis=0)),
    "Min": _of(lambda each: np.min(each, axis=0)),
    "Normalize": _normalize,
    "Not": _of(lambda each: np.logical_not(each[0])),
    "PRelu": _prelu,
    "Pow": _power,
    "ReduceL1": _reduced(lambda x, **over: np.abs(x).sum(**over)),
    "ReduceL2": _reduced(lambda x, **over: np.sqrt((x**2).sum(**over))),
    "ReduceMin": _reduced(np.min),
    "Scale": lambda op, inputs: [inputs[0] * np.float32(op.arguments.number("scale", 1.0))],
    "Softmax": _softmax,
    "SpatialBN": _spatial_bn,
    "Sqr": _of(lambda each: each[0] ** 2),
    "Sum": _of(lambda each: np.sum(each, axis=0)),
    "Swish": _of(lambda each: each[0] * arrays.sigmoid(each[0])),
    "Where": _of(lambda each: np.where(each[0], each[1], each[2])),
}
