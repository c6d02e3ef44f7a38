"""Cases of every Caffe layer: fields, shapes, and formulas where the interpreter has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from catchment.formats.convert.caffe import interpreter
from catchment.formats.convert.caffe.model import read_net
from tests.model_files.caffe import write

Formula = Callable[..., object]
IMAGE = (2, 4, 7, 6)


@dataclass(frozen=True)
class Case:
    """One layer; `formula` is for what the interpreter does not have, and gets bottoms and blobs."""

    kind: str
    params: str = ""
    shapes: tuple[Sequence[int], ...] = (IMAGE,)
    blobs: tuple[Sequence[int], ...] = ()
    formula: Formula | None = None
    tops: int = 1
    positive: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.params}"


def shuffled(x: np.ndarray) -> np.ndarray:
    n, c, h, w = x.shape
    return x.reshape(n, 2, c // 2, h, w).swapaxes(1, 2).reshape(x.shape)


def rnn(
    x: np.ndarray, cont: np.ndarray, wx: np.ndarray, b: np.ndarray, wh: np.ndarray, *out: np.ndarray
) -> object:
    hidden, found = np.zeros((x.shape[1], len(b)), np.float32), []
    for step, kept in zip(x, cont, strict=True):
        hidden = np.tanh((hidden * kept[:, None]) @ wh.T + step @ wx.T + b)
        found.append(np.tanh(hidden @ out[0].T + out[1]))
    return np.stack(found)


def mvn(x: np.ndarray, axes: tuple[int, ...], *, scaled: bool = True) -> np.ndarray:
    centred = x - x.mean(axes, keepdims=True)
    return centred / (np.sqrt((centred**2).mean(axes, keepdims=True)) + 1e-9) if scaled else centred


def normalized(x: np.ndarray, scale: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return x / np.sqrt((x**2).sum(axes, keepdims=True) + 1e-10) * scale.reshape(1, -1, 1, 1)


def argmax_of_all(x: np.ndarray) -> np.ndarray:
    return np.argsort(-x.reshape(len(x), -1), 1, kind="stable")[:, None, :2]


def argmax_with_values(x: np.ndarray) -> np.ndarray:
    flat = x.reshape(len(x), -1)
    return np.stack([flat.argmax(1), flat.max(1)], 1)[:, :, None]


CASES = [
    Case("Convolution", "convolution_param { num_output: 3 kernel_size: 3 }", blobs=((3, 4, 3, 3), (3,))),
    Case(
        "Convolution",
        "convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 "
        "pad_w: 2 group: 2 bias_term: false }",
        blobs=((6, 2, 3, 2),),
    ),
    Case(
        "Convolution",
        "convolution_param { num_output: 2 kernel_size: 3 dilation: 2 pad: 1 }",
        blobs=((2, 4, 3, 3), (2,)),
    ),
    Case(
        "Convolution",
        "convolution_param { num_output: 2 kernel_size: 3 kernel_size: 2 stride: 1 stride: 2 }",
        blobs=((2, 4, 3, 2), (2,)),
    ),
    Case(
        "Convolution", "convolution_param { num_output: 2 kernel_size: 3 }", ((2, 4, 5),), ((2, 4, 3), (2,))
    ),
    Case(
        "DepthwiseConvolution",
        "convolution_param { num_output: 4 kernel_size: 3 }",
        blobs=((4, 1, 3, 3), (4,)),
        formula=lambda x, w, b: (
            sum(
                x[:, :, i : i + 5, j : j + 4] * w[None, :, 0, i, j, None, None]
                for i in range(3)
                for j in range(3)
            )
            + b.reshape(1, 4, 1, 1)
        ),
    ),
    Case(
        "ConvolutionDepthwise",
        "convolution_param { num_output: 4 kernel_size: 1 bias_term: false }",
        blobs=((4, 1, 1, 1),),
        formula=lambda x, w: x * w.reshape(1, 4, 1, 1),
    ),
    Case(
        "Deconvolution",
        "convolution_param { num_output: 3 kernel_size: 4 stride: 2 pad: 1 }",
        blobs=((4, 3, 4, 4), (3,)),
    ),
    Case(
        "Deconvolution",
        "convolution_param { num_output: 4 kernel_size: 3 stride: 3 group: 4 bias_term: false }",
        blobs=((4, 1, 3, 3),),
    ),
    Case(
        "Deconvolution",
        "convolution_param { num_output: 2 kernel_size: 3 dilation: 2 group: 2 }",
        blobs=((4, 1, 3, 3), (2,)),
    ),
    *(
        Case("Pooling", f"pooling_param {{ pool: {kind} {rest} }}", (shape,))
        for kind in ("MAX", "AVE")
        for rest in (
            "kernel_size: 3 stride: 2",
            "kernel_size: 3 stride: 2 pad: 1",
            "kernel_size: 2",
            "kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 pad_h: 1 pad_w: 0",
            "global_pooling: true",
            "kernel_size: 3 stride: 2 round_mode: FLOOR",
            "kernel_size: 2 stride: 2 pad: 1",
            "kernel_size: 5 stride: 3 pad: 2",
        )
        for shape in ((2, 3, 8, 8), (1, 2, 7, 6), (1, 2, 5, 9))
    ),
    Case("InnerProduct", "inner_product_param { num_output: 5 }", blobs=((5, 168), (5,))),
    Case("InnerProduct", "inner_product_param { num_output: 5 axis: 2 bias_term: false }", blobs=((5, 42),)),
    Case(
        "InnerProduct", "inner_product_param { num_output: 5 axis: -1 transpose: true }", blobs=((6, 5), (5,))
    ),
    Case("InnerProduct", "inner_product_param { num_output: 5 }", ((3, 4),), ((5, 4), (5,))),
    Case("BatchNorm", "", blobs=((4,), (4,), (1,)), positive=True),
    Case(
        "BatchNorm",
        "batch_norm_param { eps: 0.01 use_global_stats: true }",
        ((3, 4),),
        ((4,), (4,), (1,)),
        positive=True,
    ),
    Case("Scale", "scale_param { bias_term: true }", blobs=((4,), (4,))),
    Case("Scale", "scale_param { axis: 2 num_axes: 2 }", blobs=((7, 6),)),
    Case("Scale", "scale_param { axis: 1 num_axes: -1 }", blobs=((4, 7, 6),)),
    Case("Scale", "scale_param { axis: 0 }", (IMAGE, (2, 4))),
    Case("Scale", "scale_param { axis: 0 num_axes: 0 }", blobs=((),)),
    Case("Bias", "", blobs=((4,),)),
    Case("Bias", "bias_param { axis: 0 }", (IMAGE, (2,))),
    Case("LRN"),
    Case("LRN", "lrn_param { local_size: 3 alpha: 0.7 beta: 0.5 k: 2 }"),
    Case("LRN", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.5 }"),
    Case("ReLU"),
    Case("ReLU", "relu_param { negative_slope: 0.1 }"),
    Case("ReLU6"),
    Case("PReLU", blobs=((4,),)),
    Case("PReLU", "prelu_param { channel_shared: true }", blobs=((1,),)),
    Case("ELU", "elu_param { alpha: 0.5 }"),
    Case("Sigmoid"),
    Case("TanH"),
    Case("AbsVal"),
    Case("BNLL"),
    Case("Swish", "swish_param { beta: 1.5 }"),
    Case("Power", "power_param { power: 2 scale: 0.5 shift: 1 }"),
    Case("Power", "power_param { scale: -2 }"),
    Case("Power"),
    Case("Exp"),
    Case("Exp", "exp_param { base: 2 scale: 0.5 shift: 0.1 }"),
    Case("Log", positive=True),
    Case("Log", "log_param { base: 10 scale: 2 shift: 1 }", positive=True),
    Case("Threshold", "threshold_param { threshold: 0.3 }"),
    Case("Dropout", "dropout_param { dropout_ratio: 0.4 }"),
    Case("Split", tops=2),
    Case("Eltwise", shapes=(IMAGE, IMAGE, IMAGE)),
    Case("Eltwise", "eltwise_param { operation: PROD }", (IMAGE, IMAGE)),
    Case("Eltwise", "eltwise_param { operation: MAX }", (IMAGE, IMAGE, IMAGE)),
    Case("Eltwise", "eltwise_param { coeff: 1 coeff: -0.5 }", (IMAGE, IMAGE)),
    Case("Concat", shapes=(IMAGE, (2, 3, 7, 6))),
    Case("Concat", "concat_param { axis: -1 }", (IMAGE, IMAGE)),
    Case("Concat", "concat_param { concat_dim: 0 }", (IMAGE, IMAGE)),
    Case("Slice", tops=2),
    Case("Slice", "slice_param { axis: 2 slice_point: 2 slice_point: 3 }", tops=3),
    Case("Slice", "slice_param { slice_dim: 3 }", tops=3),
    Case("Flatten"),
    Case("Flatten", "flatten_param { axis: 2 }"),
    Case("Flatten", "flatten_param { axis: 0 end_axis: 1 }"),
    Case("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 2 } }"),
    Case("Reshape", "reshape_param { shape { dim: 2 dim: -1 } axis: 1 num_axes: 1 }"),
    Case("Reshape", "reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }"),
    Case("Softmax"),
    Case("Softmax", "softmax_param { axis: -1 }"),
    Case("LSTM", "recurrent_param { num_output: 3 }", ((5, 2, 4), (5, 2)), ((12, 4), (12,), (12, 3))),
    Case(
        "RNN",
        "recurrent_param { num_output: 3 }",
        ((5, 2, 4), (5, 2)),
        ((3, 4), (3,), (3, 3), (3, 3), (3,)),
        rnn,
    ),
    Case(
        "Permute", "permute_param { order: 0 order: 2 order: 3 }", formula=lambda x: x.transpose(0, 2, 3, 1)
    ),
    Case("ShuffleChannel", "shuffle_channel_param { group: 2 }", formula=shuffled),
    Case("Tile", "tile_param { axis: 2 tiles: 3 }", formula=lambda x: np.tile(x, (1, 1, 3, 1))),
    Case("Crop", "crop_param { offset: 1 }", (IMAGE, (1, 1, 3, 4)), formula=lambda x, _: x[:, :, 1:4, 1:5]),
    Case(
        "Crop",
        "crop_param { axis: 1 offset: 0 offset: 2 offset: 1 }",
        (IMAGE, (1, 2, 3, 4)),
        formula=lambda x, _: x[:, 0:2, 2:5, 1:5],
    ),
    Case("Reduction", formula=lambda x: x.sum()),
    Case(
        "Reduction",
        "reduction_param { operation: MEAN axis: 2 coeff: 2 }",
        formula=lambda x: 2 * x.mean((2, 3)),
    ),
    Case(
        "Reduction", "reduction_param { operation: ASUM axis: 1 }", formula=lambda x: np.abs(x).sum((1, 2, 3))
    ),
    Case("Reduction", "reduction_param { operation: SUMSQ axis: -1 }", formula=lambda x: (x**2).sum(3)),
    Case("ArgMax", "argmax_param { axis: 1 top_k: 2 }", formula=lambda x: np.argsort(-x, 1)[:, :2]),
    Case("ArgMax", "argmax_param { axis: 2 out_max_val: true }", formula=lambda x: x.max(2, keepdims=True)),
    Case("ArgMax", "argmax_param { top_k: 2 }", formula=argmax_of_all),
    Case("ArgMax", "argmax_param { out_max_val: true }", formula=argmax_with_values),
    Case(
        "Embed",
        "embed_param { input_dim: 9 num_output: 3 }",
        ((2, 4),),
        ((9, 3), (3,)),
        lambda x, w, b: w[x.astype(int)] + b,
    ),
    Case("MVN", formula=lambda x: mvn(x, (2, 3))),
    Case(
        "MVN",
        "mvn_param { across_channels: true normalize_variance: false }",
        formula=lambda x: mvn(x, (1, 2, 3), scaled=False),
    ),
    Case(
        "Normalize",
        "norm_param { across_spatial: false channel_shared: false }",
        blobs=((4,),),
        formula=lambda x, s: normalized(x, s, (1,)),
    ),
    Case("Normalize", "", blobs=((1,),), formula=lambda x, s: normalized(x, s, (1, 2, 3))),
    Case("Parameter", "parameter_param { shape { dim: 2 dim: 3 } }", (), ((2, 3),), lambda w: w),
]


def values(case: Case, random: np.random.Generator, shape: Sequence[int], bottom: int) -> np.ndarray:
    if case.kind == "Embed" and bottom == 0:
        return random.integers(0, 9, shape).astype(np.float32)
    if case.kind in {"LSTM", "RNN"} and bottom == 1:
        return (random.random(shape) > 0.3).astype(np.float32)
    drawn = random.standard_normal(shape)
    return np.asarray(np.abs(drawn) + 0.1 if case.positive else drawn, np.float32)


def write_case(case: Case, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Write a network of that one layer; its inputs and the outputs that they lead to."""
    random = np.random.default_rng(5)
    feeds = {f"in{at}": values(case, random, shape, at) for at, shape in enumerate(case.shapes)}
    blobs = [values(case, random, shape, -1) for shape in case.blobs]
    tops = " ".join(f'top: "out{at}"' for at in range(case.tops))
    bottoms = " ".join(f'bottom: "{name}"' for name in feeds)
    layer = f'layer {{ name: "it" type: "{case.kind}" {bottoms} {tops} {case.params} }}'
    write(folder, layer, dict(zip(feeds, case.shapes, strict=True)), {"it": blobs})
    if case.formula is None:
        return feeds, interpreter.run(read_net(folder), feeds)
    return feeds, {"out0": np.asarray(case.formula(*feeds.values(), *blobs), np.float32)}
