"""Convolution, pooling and normalisation on arrays: what the interpreters of source formats compute with.

Images are (N, C, *spatial); every function gives float32 from float32.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from catchment.formats.convert.windows import Window

Array = np.ndarray


def padded(data: Array, begin: Sequence[int], end: Sequence[int], value: float) -> Array:
    """The image with a border of `value`."""
    borders = [(0, 0), (0, 0), *zip(begin, end, strict=True)]
    return np.pad(data, borders, constant_values=value)


def patches(data: Array, window: Window) -> Array:
    """Views of what each window sees: (N, C, *places, *kernel); the image is already padded."""
    rank = len(window.kernel)
    reach = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilation, strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(data, reach, axis=tuple(range(2, 2 + rank)))
    steps = [slice(None, None, stride) for stride in window.stride]
    inside = [slice(None, None, dilation) for dilation in window.dilation]
    return views[(slice(None), slice(None), *steps, *inside)]


def convolve(data: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """Cross-correlation with a weight (out, in / groups, *kernel)."""
    rank = len(window.kernel)
    views = patches(padded(data, window.begin, window.end, 0.0), window)
    summed = (1, *range(2 + rank, 2 + 2 * rank))
    parts = []
    for view, kernel in zip(np.split(views, groups, 1), np.split(weight, groups, 0), strict=True):
        product = np.tensordot(view, kernel, (summed, tuple(range(1, 2 + rank))))
        parts.append(np.moveaxis(product, -1, 1))
    result = np.concatenate(parts, 1)
    return result if bias is None else result + bias.reshape((-1,) + (1,) * rank)


def deconvolve(
    data: Array, weight: Array, bias: Array | None, window: Window, groups: int, extra: Sequence[int] = ()
) -> Array:
    """The transpose of a convolution, with a weight (in, out / groups, *kernel).

    Args:
        data: the image.
        weight: see above.
        bias: (out,) or None.
        window: padding is cut away from the result.
        groups: of channels.
        extra: rows that the result gets behind, before they are cut.
    """
    spatial, rank = data.shape[2:], len(window.kernel)
    extra = extra or (0,) * rank
    geometry = zip(spatial, window.kernel, window.stride, window.dilation, extra, strict=True)
    sizes = [(size - 1) * s + (k - 1) * d + 1 + more for size, k, s, d, more in geometry]
    result = np.zeros((data.shape[0], weight.shape[1] * groups, *sizes), np.float32)
    images, kernels = np.split(data, groups, 1), np.split(weight, groups, 0)
    for place in itertools.product(*(range(k) for k in window.kernel)):
        here: tuple[slice | int, ...] = (slice(None), slice(None), *place)
        values = [
            np.moveaxis(np.tensordot(image, np.asarray(kernel[here]), ((1,), (0,))), -1, 1)
            for image, kernel in zip(images, kernels, strict=True)
        ]
        spots = zip(place, spatial, window.stride, window.dilation, strict=True)
        target = tuple(slice(at * d, at * d + (size - 1) * s + 1, s) for at, size, s, d in spots)
        result[(slice(None), slice(None), *target)] += np.concatenate(values, 1)
    cut = tuple(slice(b, size - e) for b, e, size in zip(window.begin, window.end, sizes, strict=True))
    result = result[(slice(None), slice(None), *cut)]
    return result if bias is None else result + bias.reshape((-1,) + (1,) * rank)


def max_pool(data: Array, window: Window, overhang: Sequence[int]) -> Array:
    """The largest value of each window; rows of padding and overhang never win."""
    ends = [end + more for end, more in zip(window.end, overhang, strict=True)]
    views = patches(padded(data, window.begin, ends, -np.inf), window)
    return np.asarray(views.max(axis=tuple(range(2 + len(window.kernel), views.ndim))))


def average_pool(data: Array, window: Window, overhang: Sequence[int], *, counts_padding: bool) -> Array:
    """The mean of each window over the image, the padding too if that counts, never the overhang."""
    ends = [end + more for end, more in zip(window.end, overhang, strict=True)]
    ones = np.ones((1, 1, *data.shape[2:]), np.float32)
    if counts_padding:
        ones = padded(ones, window.begin, window.end, 1.0)
        ones = padded(ones, [0] * len(ends), overhang, 0.0)
    else:
        ones = padded(ones, window.begin, ends, 0.0)
    axes = tuple(range(2 + len(window.kernel), 2 + 2 * len(window.kernel)))
    sums = patches(padded(data, window.begin, ends, 0.0), window).sum(axis=axes, dtype=np.float64)
    return np.asarray(sums / patches(ones, window).sum(axis=axes), np.float32)


def lrn(data: Array, size: int, alpha: float, beta: float, bias: float) -> Array:
    """x / (bias + alpha / size · sum of the squares of `size` neighbouring channels) ^ beta."""
    squares = padded_channels(data * data, size // 2)
    sums = sum(squares[:, at : at + data.shape[1]] for at in range(size))
    return np.asarray(data / (bias + alpha / size * sums) ** beta, np.float32)


def padded_channels(data: Array, count: int) -> Array:
    """Channels of zeros in front and behind."""
    return np.pad(data, [(0, 0), (count, count)] + [(0, 0)] * (data.ndim - 2))


def softmax(data: Array, axis: int) -> Array:
    """Softmax along one dimension."""
    powers = np.exp(data - data.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def sigmoid(data: Array) -> Array:
    """1 / (1 + e^-x), without overflow."""
    return (0.5 * (1 + np.tanh(0.5 * data))).astype(data.dtype)


def along(values: Array, axis: int, rank: int) -> Array:
    """Values whose dimensions stand at `axis` and after it, for a tensor of that rank."""
    return values.reshape(values.shape + (1,) * (rank - axis % rank - values.ndim))


def lstm(
    steps: Array, hidden: Array, cell: Array, recurrent: Callable[[Array], Array], order: str = "ifog"
) -> Iterator[tuple[Array, Array]]:
    """Hidden and cell state after each step of an LSTM.

    Args:
        steps: (T, N, 4 H), the input's and the biases' share of the gates.
        hidden: (N, H) in front of the first step.
        cell: (N, H) in front of the first step.
        recurrent: the hidden state's share of the gates.
        order: of the gates: input, forget, output, candidate (g).
    """
    for step in steps:
        parts = np.split(step + recurrent(hidden), 4, -1)
        gates = {name: parts[at] for at, name in enumerate(order)}
        cell = sigmoid(gates["f"]) * cell + sigmoid(gates["i"]) * np.tanh(gates["g"])
        hidden = sigmoid(gates["o"]) * np.tanh(cell)
        yield hidden, cell
