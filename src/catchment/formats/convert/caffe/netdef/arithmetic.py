"""Layers that work value by value, in Caffe2's words."""

from __future__ import annotations

from functools import partial

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.caffe.blobs import blob
from catchment.formats.convert.caffe.geometry import axis_of
from catchment.formats.convert.caffe.netdef.op import Op, Site
from catchment.formats.convert.caffe.onnx.arithmetic import log_of_base


def plain(kind: str, site: Site) -> None:
    """A layer that is one operator without arguments."""
    site.plain(kind)


def split(site: Site) -> None:
    """Copies, one for each top."""
    for top in site.layer.tops:
        site.add("Copy", site.layer.bottoms, [top])


def dropout(site: Site) -> None:
    """Dropout, which does nothing in a test."""
    site.plain("Dropout", is_test=1)


def relu(site: Site) -> None:
    """Relu or LeakyRelu."""
    slope = site.layer.params.message("relu_param").number("negative_slope", 0.0)
    if slope == 0:
        site.plain("Relu")
    else:
        site.plain("LeakyRelu", alpha=slope)


def prelu(site: Site) -> None:
    """PRelu."""
    shared = site.layer.params.message("prelu_param").flag("channel_shared", False)
    slope = blob(site.layer, 0, (1,) if shared else site.sizes([1]))
    site.add("PRelu", [*site.layer.bottoms, site.weight("slope", slope)], site.layer.tops)


def elu(site: Site) -> None:
    """Elu."""
    site.plain("Elu", alpha=site.layer.params.message("elu_param").number("alpha", 1.0))


def affine(site: Site, source: str, target: str, scale: float, shift: float) -> str:
    """source · scale + shift; where the result is: `source` itself when nothing is to be done."""
    if scale != 1:
        site.add("Scale", [source], [target], scale=float(scale))
        source = target
    if shift != 0:
        added = site.weight("shift", np.array([shift], np.float32))
        site.add("Add", [source, added], [target], broadcast=1)
        source = target
    return source


def power(site: Site) -> None:
    """Scale, Add and Pow."""
    params = site.layer.params.message("power_param")
    (bottom,), (top,) = site.layer.bottoms, site.layer.tops
    source = affine(site, bottom, top, params.number("scale", 1.0), params.number("shift", 0.0))
    exponent = params.number("power", 1.0)
    if exponent != 1:
        site.add("Pow", [source], [top], exponent=exponent)
    elif source != top:
        site.add("Copy", [source], [top])


def exp(site: Site) -> None:
    """Exp of a scaled input."""
    params = site.layer.params.message("exp_param")
    rate = log_of_base(params.number("base", -1.0))
    (bottom,), (top,) = site.layer.bottoms, site.layer.tops
    scale, shift = params.number("scale", 1.0) * rate, params.number("shift", 0.0) * rate
    site.add("Exp", [affine(site, bottom, top, scale, shift)], [top])


def log(site: Site) -> None:
    """Log of a scaled input, by the logarithm of the base."""
    params = site.layer.params.message("log_param")
    (bottom,), (top,) = site.layer.bottoms, site.layer.tops
    site.add(
        "Log", [affine(site, bottom, top, params.number("scale", 1.0), params.number("shift", 0.0))], [top]
    )
    rate = log_of_base(params.number("base", -1.0))
    if rate != 1:
        site.add("Scale", [top], [top], scale=1.0 / rate)


def relu6(site: Site) -> None:
    """Clip to 0 and 6."""
    site.plain("Clip", min=0.0, max=6.0)


def eltwise(site: Site) -> None:
    """Sum, Mul or Max; coefficients become operators of their own."""
    params = site.layer.params.message("eltwise_param")
    kind = params.text("operation", "SUM")
    names = {"PROD": "Mul", "0": "Mul", "SUM": "Sum", "1": "Sum", "MAX": "Max", "2": "Max"}
    if kind not in names:
        raise ConversionFailed(f"eltwise_param.operation {kind} is not known")
    bottoms = list(site.layer.bottoms)
    for at, factor in enumerate(params.floats("coeff")):
        if factor != 1:
            scaled = site.between(f"scaled{at}")
            site.add("Scale", [bottoms[at]], [scaled], scale=factor)
            bottoms[at] = scaled
    if names[kind] != "Mul":
        site.add(names[kind], bottoms, site.layer.tops)
        return
    (top,) = site.layer.tops
    product = bottoms[0]
    for at, each in enumerate(bottoms[1:], 2):
        target = top if at == len(bottoms) else site.between(f"product{at}")
        site.add("Mul", [product, each], [target])
        product = target


def scale(site: Site) -> None:
    """Mul and Add of values that stand at an axis."""
    layer = site.layer
    biased = layer.type == "Bias"
    params = layer.params.message("bias_param" if biased else "scale_param")
    axis = axis_of(params.whole("axis", 1), site.rank(), layer.name)
    computed = len(layer.bottoms) > 1
    count = site.shapes.rank(site.bottoms[1]) if computed else params.whole("num_axes", 1)
    axes = range(axis, site.rank() if count == -1 else axis + count)
    (top,) = layer.tops
    values = layer.bottoms[1] if computed else site.weight("w", blob(layer, 0, site.sizes(axes)))
    site.add("Add" if biased else "Mul", [layer.bottoms[0], values], [top], axis=axis, broadcast=1)
    if not biased and params.flag("bias_term", False):
        added = site.weight("b", blob(layer, 0 if computed else 1, site.sizes(axes)))
        site.add("Add", [top, added], [top], axis=axis, broadcast=1)


OPS: dict[str, Op] = {
    "AbsVal": partial(plain, "Abs"),
    "BNLL": partial(plain, "Softplus"),
    "Bias": scale,
    "Dropout": dropout,
    "ELU": elu,
    "Eltwise": eltwise,
    "Exp": exp,
    "Log": log,
    "PReLU": prelu,
    "Power": power,
    "ReLU": relu,
    "ReLU6": relu6,
    "Scale": scale,
    "Sigmoid": partial(plain, "Sigmoid"),
    "Split": split,
    "TanH": partial(plain, "Tanh"),
}
