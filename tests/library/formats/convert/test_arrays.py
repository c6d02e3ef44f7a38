"""What the interpreters compute with equals PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catchment.formats.convert import arrays
from catchment.formats.convert.windows import Window

functional = torch.nn.functional


def close(found: np.ndarray, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    *(st.integers(1, 3) for _ in range(3)),
    st.integers(0, 2),
    st.integers(1, 2),
    st.sampled_from([1, 2]),
    st.booleans(),
)
def test_convolution_and_its_transpose(
    kernel: int, stride: int, places: int, pad: int, dilation: int, groups: int, biased: bool
) -> None:
    size = (kernel - 1) * dilation + places
    window = Window((kernel, 1), (stride, 1), (pad, 0), (pad, 0), (dilation, 1))
    data, weight, bias = (
        normal(2, 4, size, 3),
        normal(6, 4 // groups, kernel, 1),
        normal(6) if biased else None,
    )
    tensors = [torch.from_numpy(each) for each in (data, weight)] + [
        None if bias is None else torch.from_numpy(bias)
    ]
    expected = functional.conv2d(*tensors, (stride, 1), (pad, 0), (dilation, 1), groups)
    close(arrays.convolve(data, weight, bias, window, groups), expected)
    if (size - 1) * stride + (kernel - 1) * dilation + 1 <= 2 * pad:
        return
    turned = normal(4, 6 // groups, kernel, 1)
    tensors[1] = torch.from_numpy(turned)
    expected = functional.conv_transpose2d(*tensors, (stride, 1), (pad, 0), 0, groups, (dilation, 1))
    close(arrays.deconvolve(data, turned, bias, window, groups), expected)


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("size", [7, 8, 9])
def test_pooling_that_rounds_up(size: int, counted: bool) -> None:
    data = normal(2, 3, size, size)
    window = Window((3, 3), (2, 2), (1, 1), (1, 1), (1, 1))
    hanging = window.overhang([size, size], clip=True)
    tensor = torch.from_numpy(data)
    close(arrays.max_pool(data, window, hanging), functional.max_pool2d(tensor, 3, 2, 1, ceil_mode=True))
    expected = functional.avg_pool2d(tensor, 3, 2, 1, ceil_mode=True, count_include_pad=counted)
    close(arrays.average_pool(data, window, hanging, counts_padding=counted), expected)


@pytest.mark.parametrize("channels", [2, 4, 9])
def test_local_response_normalisation(channels: int) -> None:
    data = normal(2, channels, 3, 3)
    expected = functional.local_response_norm(torch.from_numpy(data), 5, 1.0, 0.75, 2.0)
    close(arrays.lrn(data, 5, 1.0, 0.75, 2.0), expected)


def test_the_lstm() -> None:
    layer = torch.nn.LSTM(3, 4)
    data = torch.from_numpy(normal(5, 2, 3))
    with torch.no_grad():
        expected, _ = layer(data)
        steps = (data @ layer.weight_ih_l0.T + layer.bias_ih_l0 + layer.bias_hh_l0).numpy()
    zeros = np.zeros((2, 4), np.float32)
    weight = layer.weight_hh_l0.detach().numpy().T
    found = [hidden for hidden, _ in arrays.lstm(steps, zeros, zeros, lambda h: h @ weight, "ifgo")]
    close(np.stack(found), expected)
