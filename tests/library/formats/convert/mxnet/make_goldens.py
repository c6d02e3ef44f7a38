"""Makes goldens.npz: small MXNet models with inputs and the outputs of mxnet itself.

Run by hand with mxnet 1.9.1 and numpy 1.23.5 on Python 3.11 (`pip install mxnet==1.9.1 numpy==1.23.5`):
`python make_goldens.py goldens.npz`. Every array is random with a fixed seed.
"""

from __future__ import annotations

import io
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

import mxnet as mx  # noqa: E402
import numpy as np  # noqa: E402

S = mx.sym
IMAGE = (2, 4, 5, 4)
x, y = S.Variable("data"), S.Variable("other")


def conv(net: Any, name: str, units: int, k: int = 3, **more: Any) -> Any:
    return S.Convolution(net, kernel=(k, k), num_filter=units, name=name, **more)


def act(net: Any) -> Any:
    return S.Activation(net, act_type="relu")


def bn(net: Any, **more: Any) -> Any:
    return S.BatchNorm(net, **more)


def pool(net: Any, kind: str = "max", **more: Any) -> Any:
    return S.Pooling(net, pool_type=kind, **more)


def lenet() -> Any:
    net = pool(S.Activation(conv(x, "c1", 4, 5), act_type="tanh"), kernel=(2, 2), stride=(2, 2))
    net = pool(S.Activation(conv(net, "c2", 6, 5), act_type="tanh"), kernel=(2, 2), stride=(2, 2))
    net = S.Activation(S.FullyConnected(S.Flatten(net), num_hidden=10, name="f1"), act_type="tanh")
    return S.SoftmaxOutput(S.FullyConnected(net, num_hidden=5, name="f2"), name="softmax")


def alexnet() -> Any:
    net = S.LRN(act(conv(x, "c1", 6, 7, stride=(2, 2))), nsize=5)
    net = pool(net, kernel=(3, 3), stride=(2, 2), pooling_convention="full")
    net = S.LRN(act(conv(net, "c2", 8, 5, pad=(2, 2), num_group=2)), nsize=3, alpha=0.5)
    net = pool(net, kernel=(3, 3), stride=(2, 2))
    net = S.Dropout(act(S.FullyConnected(net, num_hidden=6, name="f1")), p=0.5)
    return S.SoftmaxOutput(S.FullyConnected(net, num_hidden=5, name="f2"), name="softmax")


def vgg() -> Any:
    net = x
    for block, units in enumerate((3, 4)):
        for at in range(2):
            net = act(conv(net, f"c{block}{at}", units, pad=(1, 1)))
        net = pool(net, kernel=(2, 2), stride=(2, 2))
    return S.SoftmaxOutput(S.FullyConnected(net, num_hidden=5, name="f"), name="softmax")


def resnet() -> Any:
    net = bn(x, fix_gamma=True, eps=2e-5, name="bn_data")
    net = pool(
        act(bn(conv(net, "c0", 4, 7, stride=(2, 2), pad=(3, 3), no_bias=True))), kernel=(3, 3), stride=(2, 2)
    )
    for at, (units, stride) in enumerate([(4, 1), (6, 2)]):
        first = act(bn(net, fix_gamma=False, name=f"bn{at}a"))
        branch = conv(first, f"c{at}a", units, stride=(stride, stride), pad=(1, 1), no_bias=True)
        branch = conv(act(bn(branch, fix_gamma=False)), f"c{at}b", units, pad=(1, 1), no_bias=True)
        net = branch + (net if stride == 1 else conv(first, f"s{at}", units, 1, stride=(2, 2), no_bias=True))
    net = S.Flatten(pool(act(bn(net, fix_gamma=False)), "avg", kernel=(7, 7), global_pool=True))
    return S.SoftmaxOutput(S.FullyConnected(net, num_hidden=5, name="fc"), name="softmax")


def mobilenet_v1() -> Any:
    net = act(bn(conv(x, "c0", 4, stride=(2, 2), pad=(1, 1), no_bias=True)))
    net = act(bn(conv(net, "dw", 4, pad=(1, 1), num_group=4, no_bias=True)))
    net = act(bn(conv(net, "pw", 6, 1, no_bias=True)))
    return S.softmax(
        S.Flatten(conv(pool(net, "avg", kernel=(1, 1), global_pool=True), "fc", 5, 1)), name="prob"
    )


def mobilenet_v2() -> Any:
    net = S.clip(bn(conv(x, "c0", 4, stride=(2, 2), pad=(1, 1))), a_min=0, a_max=6)
    wide = S.clip(bn(conv(net, "up", 8, 1)), a_min=0, a_max=6)
    wide = S.clip(bn(conv(wide, "dw", 8, pad=(1, 1), num_group=8)), a_min=0, a_max=6)
    net = S.elemwise_add(net, bn(conv(wide, "down", 4, 1)))
    net = S.contrib.AdaptiveAvgPooling2D(net)
    return S.reshape(conv(net, "fc", 5, 1), shape=(0, -1), name="flat")


def squeezenet() -> Any:
    net = pool(act(conv(x, "c1", 6, stride=(2, 2))), kernel=(3, 3), stride=(2, 2), pooling_convention="full")
    net = act(conv(net, "sq", 3, 1))
    net = S.Dropout(S.Concat(act(conv(net, "e1", 4, 1)), act(conv(net, "e3", 4, pad=(1, 1)))))
    net = pool(act(conv(net, "c10", 5, 1)), "avg", kernel=(13, 13), global_pool=True)
    return S.SoftmaxOutput(S.Flatten(net), name="softmax")


def inception() -> Any:
    net = act(bn(conv(x, "c0", 6, pad=(1, 1)), fix_gamma=False))
    three = act(conv(act(conv(net, "b3r", 2, 1)), "b3", 4, pad=(1, 1)))
    five = act(conv(act(conv(net, "b5r", 2, 1)), "b5", 3, 5, pad=(2, 2)))
    pooled = act(conv(pool(net, "avg", kernel=(3, 3), stride=(1, 1), pad=(1, 1)), "bp", 2, 1))
    net = S.Concat(act(conv(net, "b1", 3, 1)), three, five, pooled)
    net = pool(net, "avg", kernel=(3, 3), stride=(2, 2), pad=(1, 1), pooling_convention="full")
    return S.SoftmaxOutput(S.FullyConnected(net, num_hidden=5, name="fc"), name="softmax")


def mlp() -> Any:
    net = act(S.FullyConnected(x, num_hidden=8, name="f1"))
    return S.LogisticRegressionOutput(S.FullyConnected(net, num_hidden=3, name="f2"), name="out")


def unrolled_lstm() -> Any:
    cell = mx.rnn.SequentialRNNCell()
    cell.add(mx.rnn.LSTMCell(5, prefix="l0_"))
    cell.add(mx.rnn.GRUCell(4, prefix="l1_"))
    words = S.Embedding(x, input_dim=9, output_dim=3, name="embed")
    outputs, _ = cell.unroll(3, words, layout="NTC", merge_outputs=False)
    return S.SoftmaxOutput(S.FullyConnected(outputs[-1], num_hidden=4, name="fc"), name="softmax")


def gluon_lstm() -> Any:
    layer = mx.gluon.rnn.LSTM(4, 2, bidirectional=True, input_size=3)
    return layer(x)


def fused(mode: str, layers: int, both: bool, states: bool = False) -> Any:
    data = {
        "state_size": 3,
        "num_layers": layers,
        "mode": mode,
        "bidirectional": both,
        "state_outputs": states,
    }
    cell = [S.Variable("cell")] if mode == "lstm" else []
    return S.RNN(x, S.Variable("weights"), S.Variable("hidden"), *cell, name="rnn", **data)


ONE = [
    *(
        getattr(S, name)(x, name="it")
        for name in [
            "abs",
            "cos",
            "sin",
            "tan",
            "exp",
            "tanh",
            "sigmoid",
            "relu",
            "softsign",
            "floor",
            "ceil",
            "rint",
            "sign",
            "square",
            "negative",
            "erf",
            "expm1",
            "arctan",
            "BlockGrad",
            "identity",
            "zeros_like",
            "ones_like",
            "sinh",
            "cosh",
            "Flatten",
            "argmax_channel",
            "logical_not",
            "stop_gradient",
            "make_loss",
            "MakeLoss",
        ]
    ),
    *(S.Activation(x, act_type=kind) for kind in ["relu", "sigmoid", "tanh", "softrelu", "softsign"]),
    *(S.LeakyReLU(x, act_type=kind, slope=0.3) for kind in ["leaky", "elu", "selu", "gelu"]),
    S.LeakyReLU(x, act_type="rrelu")[0],
    S.LeakyReLU(x, act_type="prelu", name="pre"),
    x + 2,
    x - 2,
    2 - x,
    x * 3,
    x / 4,
    x**2,
    S.maximum(x, 0.5),
    S.minimum(x, 0.5),
    x > 0.1,
    x < 0.1,
    x >= 0,
    x <= 0,
    x == 0,
    x != 0,
    S.clip(x, a_min=-0.5, a_max=0.7),
    S.hard_sigmoid(x, alpha=0.3),
    S.smooth_l1(x, scalar=1.5),
    S.sum(x),
    S.sum(x, axis=1),
    S.mean(x, axis=(2, 3), keepdims=True),
    S.max(x, axis=-1),
    S.min(x, axis=(0, 2)),
    S.mean(x, axis=1, exclude=True),
    S.prod(x, axis=3),
    S.norm(x),
    S.norm(x, ord=1, axis=1),
    S.argmax(x, axis=1),
    S.argmin(x, axis=2, keepdims=True),
    S.argmax(x),
    S.softmax(x),
    S.softmax(x, axis=1, temperature=2.0),
    S.log_softmax(x, axis=1),
    S.softmin(x),
    S.SoftmaxActivation(x),
    S.SoftmaxActivation(x, mode="channel"),
    S.SoftmaxOutput(x),
    S.SoftmaxOutput(x, multi_output=True),
    S.SoftmaxOutput(x, preserve_shape=True),
    S.LinearRegressionOutput(x),
    S.MAERegressionOutput(x),
    S.LogisticRegressionOutput(x),
    S.SVMOutput(x),
    S.reshape(x, shape=(0, -1)),
    S.reshape(x, shape=(-2, 1)),
    S.reshape(x, shape=(0, -3, -2)),
    S.reshape(x, shape=(0, -4, 2, -1, -2)),
    S.reshape(x, shape=(-1, 0), reverse=True),
    S.reshape(x, shape=(8, 20)),
    S.reshape(x, shape=(-3, -3)),
    S.transpose(x),
    S.transpose(x, axes=(0, 2, 3, 1)),
    S.SwapAxis(x, dim1=1, dim2=3),
    S.expand_dims(x, axis=1),
    S.squeeze(S.expand_dims(x, axis=0)),
    S.squeeze(S.expand_dims(x, axis=2), axis=2),
    S.slice(x, begin=(0, 1), end=(1, 3)),
    S.slice(x, begin=(None, None, 4), end=(None, None, None), step=(1, 2, -2)),
    S.slice_axis(x, axis=2, begin=1, end=-1),
    S.slice_axis(x, axis=-1, begin=2, end=None),
    S.slice_like(x, S.slice_axis(x, axis=1, begin=0, end=2)),
    S.slice_like(x, S.slice(x, begin=(0, 0, 0, 0), end=(1, 2, 3, 4)), axes=(2, 3)),
    S.flip(x, axis=2),
    S.reverse(x, axis=(1, 3)),
    S.SequenceReverse(x),
    S.SequenceLast(x),
    S.Crop(x, offset=(1, 1), h_w=(3, 3)),
    S.Crop(x, h_w=(4, 3), center_crop=True),
    S.tile(x, reps=(2, 1, 3)),
    S.tile(x, reps=(2, 1, 1, 1, 1)),
    S.repeat(x, repeats=2, axis=2),
    S.broadcast_to(S.sum(x, axis=1, keepdims=True), shape=(0, 3, 0, 0)),
    S.broadcast_axis(S.sum(x, axis=1, keepdims=True), axis=1, size=3),
    S.broadcast_like(S.sum(x, axis=1, keepdims=True), x),
    S.depth_to_space(x, block_size=2),
    S.cast(x, dtype="int32"),
    S.reshape_like(x, S.reshape(x, shape=(8, -1))),
    S.Pad(x, mode="constant", pad_width=(0, 0, 0, 0, 1, 2, 0, 1), constant_value=0.5),
    S.Pad(x, mode="edge", pad_width=(0, 0, 0, 0, 1, 2, 0, 1)),
    S.Pad(x, mode="reflect", pad_width=(0, 0, 0, 0, 1, 2, 0, 1)),
    S.UpSampling(x, scale=2, sample_type="nearest"),
    S.UpSampling(x, scale=3, sample_type="bilinear", num_filter=4),
    S.stack(x, x, axis=2),
    S.Concat(x, x, dim=3),
    S.concat(x, x, dim=0),
    S.SliceChannel(x, num_outputs=2),
    S.split(x, num_outputs=2, axis=3),
    S.SliceChannel(x, num_outputs=4, axis=1, squeeze_axis=True)[2],
    S.split_v2(x, (1, 3), axis=2),
    S.add_n(x, x, x),
    S.split_v2(x, 2, axis=3),
    S.ElementWiseSum(x, x),
    S.where(x > 0, x, x * 2),
    S.batch_dot(S.reshape(x, shape=(-3, -2)), S.reshape(x, shape=(-3, -2)), transpose_b=True),
    S.linalg_gemm2(x, x, transpose_a=True, alpha=0.5),
    S.L2Normalization(x),
    S.L2Normalization(x, mode="channel"),
    S.L2Normalization(x, mode="spatial"),
    S.LRN(x, nsize=3, alpha=0.5),
    S.InstanceNorm(x),
    S.LayerNorm(x),
    S.LayerNorm(x, axis=1, eps=0.1),
    bn(x),
    bn(x, fix_gamma=False, eps=0.01),
    bn(x, fix_gamma=False, axis=3),
    S.FullyConnected(x, num_hidden=3),
    S.FullyConnected(x, num_hidden=3, flatten=False, no_bias=True),
    conv(x, "c", 3),
    conv(x, "c", 4, 3, stride=(2, 1), pad=(1, 2), num_group=2, no_bias=True),
    conv(x, "c", 2, 2, dilate=(2, 2)),
    S.Deconvolution(x, kernel=(4, 4), stride=(2, 2), pad=(1, 1), num_filter=3),
    S.Deconvolution(x, kernel=(3, 3), stride=(2, 2), adj=(1, 1), num_filter=4, num_group=2, no_bias=False),
    *(
        pool(x, kind, kernel=(3, 2), stride=(2, 2), pad=(1, 0), pooling_convention=convention)
        for kind in ("max", "avg", "sum")
        for convention in ("valid", "full")
    ),
    pool(
        x, "avg", kernel=(3, 3), stride=(2, 2), pad=(1, 1), count_include_pad=False, pooling_convention="full"
    ),
    pool(x, "avg", kernel=(3, 3), pad=(1, 1)),
    pool(x, "lp", kernel=(2, 2), p_value=2),
    *(pool(x, kind, kernel=(1, 1), global_pool=True) for kind in ("max", "avg", "sum")),
    S.contrib.AdaptiveAvgPooling2D(x, output_size=(5, 2)),
    S.contrib.BilinearResize2D(x, height=5, width=9),
    S.broadcast_add(x, S.arange(4)),
    S.broadcast_mul(x, S.ones((1, 4, 1, 1))),
    S.broadcast_add(x, S.zeros((1,))),
    S.broadcast_mul(x, S.full((1,), 2.5)),
]

TWO = [
    *(
        getattr(S, f"broadcast_{name}")(x, y)
        for name in [
            "add",
            "sub",
            "mul",
            "div",
            "power",
            "maximum",
            "minimum",
            "equal",
            "not_equal",
            "greater",
            "greater_equal",
            "lesser",
            "lesser_equal",
            "plus",
            "minus",
        ]
    ),
    x + y,
    x - y,
    x * y,
    x / y,
    x > y,
    x == y,
    S.elemwise_add(x, y),
    S.elemwise_sub(x, y),
    S.elemwise_mul(x, y),
    S.elemwise_div(x, y),
    S.maximum(x, y),
    S.minimum(x, y),
    x**y,
    x != y,
    x >= y,
    x < y,
    x <= y,
]

POSITIVE = [
    getattr(S, name)(x, name="it")
    for name in ["sqrt", "log", "log2", "log10", "log1p", "rsqrt", "reciprocal"]
]
POSITIVE += [3 / x, 2**x]
SMALL = [S.arcsin(x), S.arccos(x)]

CASES: list[tuple[Any, dict[str, tuple[int, ...]], str]] = [
    *((each, {"data": IMAGE}, "normal") for each in ONE),
    *((each, {"data": IMAGE, "other": IMAGE}, "positive") for each in TWO),
    *((each, {"data": IMAGE}, "positive") for each in POSITIVE),
    *((each, {"data": IMAGE}, "unit") for each in SMALL),
    (S.broadcast_mul(x, y), {"data": IMAGE, "other": (1, 4, 1, 1)}, "normal"),
    (S.space_to_depth(x, block_size=2), {"data": (1, 2, 4, 6)}, "normal"),
    (S.dot(x, y), {"data": (3, 4), "other": (4, 2)}, "normal"),
    (S.dot(x, y, transpose_a=True, transpose_b=True), {"data": (4, 3), "other": (2, 4)}, "normal"),
    (S.dot(x, y), {"data": (2, 3, 4), "other": (4, 2)}, "normal"),
    (S.Convolution(x, kernel=(3,), num_filter=2), {"data": (2, 3, 8)}, "normal"),
    (S.Convolution(x, kernel=(2, 2, 2), num_filter=2), {"data": (1, 2, 3, 4, 4)}, "normal"),
    (S.Embedding(x, input_dim=9, output_dim=3), {"data": (2, 5)}, "index"),
    (S.one_hot(x, depth=7, on_value=2.0, off_value=-1.0), {"data": (2, 5)}, "index"),
    (S.take(y, x, axis=1), {"data": (2, 2), "other": (3, 6)}, "index"),
    (S.take(y, x, mode="wrap"), {"data": (2, 2), "other": (3, 6)}, "index"),
    *(
        (fused(mode, layers, both), {"data": (4, 2, 3)}, "normal")
        for mode in ("lstm", "gru", "rnn_tanh", "rnn_relu")
        for layers, both in ((1, False), (2, True))
    ),
    (fused("lstm", 2, False, states=True), {"data": (4, 2, 3)}, "normal"),
    (fused("gru", 1, True, states=True), {"data": (4, 2, 3)}, "normal"),
    (gluon_lstm(), {"data": (4, 2, 3)}, "normal"),
    (lenet(), {"data": (2, 1, 28, 28)}, "normal"),
    (alexnet(), {"data": (1, 3, 35, 35)}, "normal"),
    (vgg(), {"data": (1, 3, 12, 12)}, "normal"),
    (resnet(), {"data": (1, 3, 34, 34)}, "normal"),
    (mobilenet_v1(), {"data": (1, 3, 16, 16)}, "normal"),
    (mobilenet_v2(), {"data": (2, 3, 16, 16)}, "normal"),
    (squeezenet(), {"data": (1, 3, 20, 20)}, "normal"),
    (inception(), {"data": (1, 3, 10, 10)}, "normal"),
    (mlp(), {"data": (3, 6)}, "normal"),
    (unrolled_lstm(), {"data": (2, 3)}, "index"),
]


def drawn(random: Any, shape: tuple[int, ...], kind: str, name: str, is_input: bool) -> np.ndarray:
    if name.endswith(("_var", "gamma")) and not is_input:
        return random.uniform(0.5, 1.5, shape)
    if kind == "index" and is_input and name == "data":
        return random.randint(0, 7, shape)
    if kind == "positive" and is_input:
        return random.uniform(0.2, 2.0, shape).round(1)
    if kind == "unit" and is_input:
        return random.uniform(-0.9, 0.9, shape)
    scale = 1 if is_input else np.sqrt(2 / max(1, np.prod(shape[1:])))
    return (random.standard_normal(shape) * scale).round(2 if is_input else 3)


def main(path: str) -> None:
    random, found = np.random.RandomState(7), {}
    with tempfile.TemporaryDirectory() as folder:
        for at, (symbol, shapes, kind) in enumerate(CASES):
            given = {k: v for k, v in shapes.items() if k in symbol.list_arguments()}
            sizes, _, aux_sizes = symbol.infer_shape(**given)
            arguments = dict(zip(symbol.list_arguments(), sizes, strict=True))
            values = {k: mx.nd.array(drawn(random, v, kind, k, k in shapes)) for k, v in arguments.items()}
            aux = {
                k: mx.nd.array(drawn(random, v, kind, k, False))
                for k, v in zip(symbol.list_auxiliary_states(), aux_sizes, strict=True)
            }
            bound = symbol.bind(mx.cpu(), values, aux_states=aux, grad_req="null")
            outputs = [each.asnumpy() for each in bound.forward(is_train=False)]
            kept = {k: v for k, v in values.items() if k not in shapes and not k.endswith("label")}
            prefixed = {f"arg:{k}": v for k, v in kept.items()} | {f"aux:{k}": v for k, v in aux.items()}
            file = Path(folder) / "it.params"
            mx.nd.save(str(file), prefixed or {"arg:unused": mx.nd.zeros((1,))})
            key = f"{at:03}"
            found[f"{key}/symbol"] = np.frombuffer(symbol.tojson().encode(), np.uint8)
            found[f"{key}/params"] = np.frombuffer(file.read_bytes(), np.uint8)
            found |= {f"{key}/in/{name}": values[name].asnumpy() for name in given}
            for name, output in zip(symbol.list_outputs(), outputs, strict=True):
                found[f"{key}/out/{name}"] = output
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **found)
    Path(path).write_bytes(buffer.getvalue())


if __name__ == "__main__":
    main(sys.argv[1])
