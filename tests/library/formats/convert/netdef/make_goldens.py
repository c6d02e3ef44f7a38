# ruff: noqa: B905, UP031, PTH123
"""Makes goldens.npz: small NetDef models with inputs and the outputs of Caffe2 itself.

Run by hand on Python 3.8 with torch 1.7.1 (its wheel holds Caffe2), numpy 1.23.5, protobuf 3.20.3, future,
six and typing_extensions:
`python make_goldens.py goldens.npz`. Every array is random with a fixed seed.
"""

import io
import sys

import numpy as np
from caffe2.proto import caffe2_pb2
from caffe2.python import core, workspace

IMAGE = (2, 4, 5, 4)
X, Y = "data", "other"


def case(kind, shapes=(IMAGE,), weights=(), outputs=1, positive=False, **arguments):
    """One operator: its inputs are data and other, then weights w0, w1 ..."""
    return kind, shapes, weights, outputs, positive, arguments


CASES = [
    *(
        case(kind)
        for kind in [
            "Abs",
            "Ceil",
            "Cos",
            "Exp",
            "Floor",
            "Negative",
            "Relu",
            "Sigmoid",
            "Sign",
            "Sin",
            "Softplus",
            "Softsign",
            "Tanh",
            "Copy",
            "StopGradient",
            "Sqr",
            "Swish",
            "EnsureCPUOutput",
            "Alias",
            "NCHW2NHWC",
            "NHWC2NCHW",
            "FlattenToVec",
            "Shape",
        ]
    ),
    case("Log", positive=True),
    case("Sqrt", positive=True),
    case("Conv", weights=((3, 4, 3, 3), (3,)), kernel=3),
    case(
        "Conv",
        weights=((6, 2, 3, 2), (6,)),
        kernel_h=3,
        kernel_w=2,
        stride_h=2,
        stride_w=1,
        pad_t=1,
        pad_l=0,
        pad_b=2,
        pad_r=1,
        group=2,
    ),
    case(
        "Conv", weights=((2, 4, 2, 2),), kernels=[2, 2], dilations=[2, 1], pads=[1, 1, 1, 1], strides=[1, 2]
    ),
    case("Conv", weights=((2, 4, 3, 3), (2,)), kernel=3, stride=2, legacy_pad=2),
    case("Conv", weights=((2, 4, 3, 3), (2,)), kernel=3, legacy_pad=1),
    case("ConvTranspose", weights=((4, 3, 4, 4), (3,)), kernel=4, stride=2, pad=1),
    case("ConvTranspose", weights=((4, 3, 3, 3), (3,)), kernel=3, stride=2, pad=1, adj=1),
    *(
        case(kind, shapes=(shape,), kernel=k, stride=s, pad=p, legacy_pad=legacy)
        for kind in ("MaxPool", "AveragePool")
        for legacy in (0, 3)
        for k, s, p in ((3, 2, 0), (3, 2, 1), (2, 2, 1))
        for shape in ((1, 2, 8, 8), (1, 2, 7, 6))
    ),
    case("MaxPool", kernel=3, stride=2, legacy_pad=2),
    case("AveragePool", kernel=3, stride=2, legacy_pad=2),
    case("AveragePool", kernel=3, stride=2, pad=1, count_include_pad=1),
    case("AveragePool", kernel=2, pad_t=0, pad_l=0, pad_b=1, pad_r=1),
    case("MaxPool", global_pooling=1),
    case("AveragePool", global_pooling=1),
    case("FC", weights=((5, 80), (5,))),
    case("FC", weights=((5, 20), (5,)), axis=2),
    case("FC", weights=((1, 1, 5, 80), (5,)), axis_w=3),
    case("FCTransposed", weights=((80, 5), (5,))),
    case("MatMul", shapes=((3, 4), (4, 2))),
    case("MatMul", shapes=((4, 3), (2, 4)), trans_a=1, trans_b=1),
    case("BatchMatMul", shapes=((2, 3, 4), (2, 4, 5))),
    case("SpatialBN", weights=((4,), (4,), (4,), (4,)), positive=True, is_test=1, epsilon=0.01),
    case("InstanceNorm", weights=((4,), (4,)), epsilon=0.01),
    case("AffineChannel", weights=((4,), (4,))),
    case("LRN", size=3, alpha=0.7, beta=0.5, bias=2.0),
    case("LRN", size=5, alpha=0.0001, beta=0.75),
    case("LayerNorm", outputs=3, axis=1, epsilon=0.01),
    case("Normalize", axis=1),
    case("Normalize"),
    case("Softmax", shapes=((3, 6),)),
    case("Softmax"),
    case("Softmax", axis=3),
    case("Softmax", shapes=((2, 5, 1, 1),)),
    *(
        case(kind, shapes=(IMAGE, IMAGE), positive=True)
        for kind in ["Add", "Sub", "Mul", "Div", "EQ", "GE", "GT", "LE", "LT"]
    ),
    *(
        case(kind, shapes=(IMAGE,), weights=((4,),), axis=1, broadcast=1, positive=True)
        for kind in ["Add", "Sub", "Mul", "Div"]
    ),
    case("Mul", shapes=(IMAGE,), weights=((5, 4),), broadcast=1),
    case("Add", shapes=(IMAGE, (4, 1, 1))),
    *(case(kind, shapes=(IMAGE, IMAGE)) for kind in ["Sum", "Mean", "Max", "Min"]),
    case("LeakyRelu", alpha=0.3),
    case("Elu", alpha=0.5),
    case("PRelu", weights=((4,),)),
    case("PRelu", weights=((1,),)),
    case("Clip", min=-0.5, max=0.5),
    case("Pow", exponent=2.0),
    case("Scale", scale=2.5),
    case("Dropout", is_test=1),
    case("Cast", to=2),
    case("ArgMax", axis=1),
    case("ArgMax", axis=2, keepdims=0),
    case("ArgMin", axis=1),
    *(
        case(kind, axes=[1, 2])
        for kind in ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"]
    ),
    case("ReduceMean", axes=[2, 3], keepdims=0),
    *(case(kind, num_reduce_dim=2) for kind in ["ReduceBackSum", "ReduceBackMean", "ReduceBackMax"]),
    case("Concat", shapes=(IMAGE, IMAGE), outputs=2),
    case("Concat", shapes=(IMAGE, IMAGE), outputs=2, axis=3),
    case("Concat", shapes=(IMAGE, IMAGE), outputs=2, axis=1, add_axis=1),
    case("DepthConcat", shapes=(IMAGE, IMAGE), outputs=2),
    case("Split", outputs=2),
    case("Split", outputs=3, axis=2, split=[1, 1, 3]),
    case("Reshape", outputs=2, shape=[0, -1]),
    case("Reshape", outputs=2, shape=[-1, 0, 2]),
    case("Flatten"),
    case("Flatten", axis=2),
    case("ExpandDims", dims=[1, 3]),
    case("Squeeze", shapes=((2, 1, 3, 1),), dims=[1, 3]),
    case("Transpose"),
    case("Transpose", axes=[0, 2, 3, 1]),
    case("Slice", starts=[0, 1, 0, 0], ends=[-1, 3, -1, -1]),
    case("Slice", starts=[0, 0, 2, 0], ends=[-1, -1, -2, -1]),
    case("Tile", axis=2, tiles=3),
    case("ChannelShuffle", group=2, kernel=1),
    case("PadImage", pad=1),
    case("PadImage", pads=[1, 0, 2, 1], mode="edge"),
    case("PadImage", pads=[1, 0, 2, 1], mode="reflect"),
    case("PadImage", pads=[1, 0, 2, 1], mode="constant", value=0.5),
    case("ResizeNearest", height_scale=2.0, width_scale=3.0),
    case("ConstantFill", shapes=(), shape=[2, 3], value=1.5),
    case("GivenTensorFill", shapes=(), shape=[2, 2], values=[1.0, 2.0, 3.0, 4.5]),
    case("GivenTensorIntFill", shapes=(), shape=[2], values=[1, -2]),
    case("GivenTensorInt64Fill", shapes=(), shape=[2], values=[1, -2]),
]


def filling(name, values):
    """The operator of the init net that makes an array."""
    return core.CreateOperator(
        "GivenTensorFill", [], [name], shape=values.shape, values=values.ravel().tolist()
    )


def main(path):
    random, found = np.random.RandomState(3), {}
    for at, (kind, shapes, weights, count, positive, arguments) in enumerate(CASES):
        draw = (
            (lambda s: random.uniform(0.2, 2.0, s).round(2))
            if positive
            else (lambda s: random.randn(*s).round(2))
        )
        feeds = {name: draw(shape).astype(np.float32) for name, shape in zip((X, Y), shapes)}
        kept = {"w%d" % n: draw(shape).astype(np.float32) for n, shape in enumerate(weights)}
        outputs = ["out%d" % n for n in range(count)]
        op = core.CreateOperator(kind, [*feeds, *kept], outputs, **arguments)
        net = caffe2_pb2.NetDef(name="golden", op=[op])
        net.external_input.extend([*feeds, *kept])
        net.external_output.extend(outputs if kind == "Split" else outputs[:1])
        start = caffe2_pb2.NetDef(name="init", op=[filling(name, values) for name, values in kept.items()])
        workspace.ResetWorkspace()
        workspace.RunNetOnce(start)
        for name, values in feeds.items():
            workspace.FeedBlob(name, values)
        workspace.RunNetOnce(net)
        key = "%03d" % at
        found[key + "/init"] = np.frombuffer(start.SerializeToString() or b"\n\0", np.uint8)
        found[key + "/predict"] = np.frombuffer(net.SerializeToString(), np.uint8)
        found.update({key + "/in/" + name: values for name, values in feeds.items()})
        found.update({key + "/out/" + name: workspace.FetchBlob(name) for name in net.external_output})
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **found)
    with open(path, "wb") as file:
        file.write(buffer.getvalue())


if __name__ == "__main__":
    main(sys.argv[1])
