"""Caffe networks of the known families, with few channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.model_files.caffe import Drawing


def lenet(d: Drawing) -> tuple[int, ...]:
    """LeNet: two convolutions with pooling, two fully connected layers."""
    d.conv("conv1", "data", 1, 4, 5)
    d.pool("pool1", "conv1", "MAX", 2, 2)
    d.conv("conv2", "pool1", 4, 6, 5)
    d.pool("pool2", "conv2", "MAX", 2, 2)
    d.fc("ip1", "pool2", 6 * 4 * 4, 10)
    d.relu("ip1")
    d.fc("ip2", "ip1", 10, 5)
    d.layer("Softmax", "prob", "ip2")
    return (2, 1, 28, 28)


def alexnet(d: Drawing) -> tuple[int, ...]:
    """AlexNet: LRN, groups, overlapping pooling, dropout."""
    d.conv("conv1", "data", 3, 6, 7, stride=2)
    d.relu("conv1")
    d.layer("LRN", "norm1", "conv1", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")
    d.pool("pool1", "norm1", "MAX", 3, 2)
    d.conv("conv2", "pool1", 6, 8, 5, pad=2, group=2)
    d.relu("conv2")
    d.layer("LRN", "norm2", "conv2", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 }")
    d.pool("pool2", "norm2", "MAX", 3, 2)
    d.fc("fc6", "pool2", 8 * 4 * 4, 12)
    d.relu("fc6")
    d.layer("Dropout", "drop!", "fc6", "dropout_param { dropout_ratio: 0.5 }")
    d.fc("fc7", "fc6", 12, 5)
    d.layer("Softmax", "prob", "fc7")
    return (1, 3, 39, 39)


def vgg(d: Drawing) -> tuple[int, ...]:
    """VGG: pairs of 3x3 convolutions."""
    top, channels = "data", 3
    for block, units in enumerate((4, 6), 1):
        for at in (1, 2):
            top = d.relu(d.conv(f"conv{block}_{at}", top, channels, units, 3, pad=1))
            channels = units
        top = d.pool(f"pool{block}", top, "MAX", 2, 2)
    d.fc("fc6", top, 6 * 4 * 4, 8)
    d.relu("fc6")
    d.fc("fc7", "fc6", 8, 5)
    d.layer("Softmax", "prob", "fc7")
    return (1, 3, 16, 16)


def resnet(d: Drawing) -> tuple[int, ...]:
    """ResNet: batch normalisation in place, sums, a projection, pooling that rounds up."""
    d.conv("conv1", "data", 3, 4, 7, stride=2, pad=3)
    d.relu(d.bn("conv1", 4))
    top = d.pool("pool1", "conv1", "MAX", 3, 2)
    for name, cin, cout, stride in (("a", 4, 4, 1), ("b", 4, 6, 2)):
        branch = d.relu(d.bn(d.conv(f"{name}1", top, cin, cout, 3, stride=stride, pad=1), cout))
        branch = d.bn(d.conv(f"{name}2", branch, cout, cout, 3, pad=1), cout)
        short = d.bn(d.conv(f"{name}0", top, cin, cout, 1, stride=stride), cout) if stride > 1 else top
        top = d.relu(d.layer("Eltwise", f"sum_{name}", f"{short} {branch}"))
    d.fc("fc", d.global_pool(top), 6, 5)
    d.layer("Softmax", "prob", "fc")
    return (1, 3, 34, 34)


def mobilenet_v1(d: Drawing) -> tuple[int, ...]:
    """MobileNet v1: depthwise convolutions as groups."""
    top = d.relu(d.bn(d.conv("conv1", "data", 3, 4, 3, stride=2, pad=1), 4))
    for at, (cin, cout, stride) in enumerate([(4, 6, 1), (6, 8, 2)]):
        top = d.relu(d.bn(d.conv(f"dw{at}", top, cin, cin, 3, stride=stride, pad=1, group=cin), cin))
        top = d.relu(d.bn(d.conv(f"pw{at}", top, cin, cout, 1), cout))
    d.conv("fc7", d.global_pool(top), 8, 5, 1)
    d.layer("Softmax", "prob", "fc7")
    return (1, 3, 16, 16)


def mobilenet_v2(d: Drawing) -> tuple[int, ...]:
    """MobileNet v2: inverted residuals, ReLU6."""
    top = d.bn(d.conv("conv1", "data", 3, 4, 3, stride=2, pad=1), 4)
    d.layer("ReLU6", "six!", top)
    wide = d.bn(d.conv("up", top, 4, 12, 1), 12)
    d.layer("ReLU6", "six!", wide)
    deep = d.bn(d.conv("dw", wide, 12, 12, 3, pad=1, group=12), 12)
    d.layer("ReLU6", "six!", deep)
    thin = d.bn(d.conv("down", deep, 12, 4, 1), 4)
    d.layer("Eltwise", "block", f"{top} {thin}")
    d.fc("fc", d.global_pool("block"), 4, 5)
    d.layer("Softmax", "prob", "fc")
    return (1, 3, 16, 16)


def squeezenet(d: Drawing) -> tuple[int, ...]:
    """SqueezeNet: fire modules, a convolution as classifier."""
    d.relu(d.conv("conv1", "data", 3, 6, 3, stride=2))
    top = d.pool("pool1", "conv1", "MAX", 3, 2)
    squeezed = d.relu(d.conv("squeeze", top, 6, 3, 1))
    one = d.relu(d.conv("expand1", squeezed, 3, 4, 1))
    three = d.relu(d.conv("expand3", squeezed, 3, 4, 3, pad=1))
    d.layer("Concat", "fire", f"{one} {three}")
    d.layer("Dropout", "drop!", "fire")
    d.relu(d.conv("conv10", "fire", 8, 5, 1))
    d.layer("Softmax", "prob", d.global_pool("conv10"))
    return (1, 3, 20, 20)


def inception(d: Drawing) -> tuple[int, ...]:
    """GoogLeNet's module: four branches, one with padded pooling, and a mean that rounds up."""
    top = d.relu(d.conv("conv1", "data", 3, 6, 3, pad=1))
    one = d.relu(d.conv("b1", top, 6, 3, 1))
    three = d.relu(d.conv("b3", d.relu(d.conv("b3_reduce", top, 6, 2, 1)), 2, 4, 3, pad=1))
    five = d.relu(d.conv("b5", d.relu(d.conv("b5_reduce", top, 6, 2, 1)), 2, 3, 5, pad=2))
    pooled = d.relu(d.conv("bp", d.pool("bp_pool", top, "MAX", 3, 1, 1), 6, 2, 1))
    d.layer("Concat", "module", f"{one} {three} {five} {pooled}")
    d.pool("mean", "module", "AVE", 3, 2, 1)
    d.fc("fc", "mean", 12 * 6 * 6, 5)
    d.layer("Softmax", "prob", "fc")
    return (1, 3, 10, 10)


NETWORKS: dict[str, Callable[[Drawing], tuple[int, ...]]] = {
    each.__name__: each
    for each in (lenet, alexnet, vgg, resnet, mobilenet_v1, mobilenet_v2, squeezenet, inception)
}


def write_network(family: str, folder: Path, seed: int = 0) -> tuple[int, ...]:
    """Write a network of that family; the shape of its input `data`. Its output is `prob`."""
    drawing = Drawing(seed)
    shape = NETWORKS[family](drawing)
    drawing.write(folder, {"data": shape})
    return shape
