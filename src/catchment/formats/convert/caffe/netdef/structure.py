"""Windows, full connection, normalisation, and layers that only move values, in Caffe2's words."""

from __future__ import annotations

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.caffe.blobs import batch_statistics, blob, convolution_blobs
from catchment.formats.convert.caffe.geometry import axis_of, convolution_window, pooling_window
from catchment.formats.convert.caffe.netdef.op import Op, Site
from catchment.formats.convert.caffe.reshape import slice_sizes


def convolution(site: Site) -> None:
    """Conv and ConvTranspose; dilated deconvolutions Caffe2 does not have."""
    layer = site.layer
    window = convolution_window(layer.params.message("convolution_param"), site.rank() - 2)
    transposed = layer.type == "Deconvolution"
    if transposed and set(window.dilation) != {1}:
        raise ConversionFailed("Caffe2 has no dilated ConvTranspose")
    (channels,) = site.sizes([1])
    weight, bias, groups = convolution_blobs(layer, channels, window.kernel, transposed=transposed)
    names = [site.weight("w", weight)] + ([] if bias is None else [site.weight("b", bias)])
    dilations = {} if transposed else {"dilations": list(window.dilation)}
    for bottom, top in zip(layer.bottoms, layer.tops, strict=True):
        site.add(
            "ConvTranspose" if transposed else "Conv",
            [bottom, *names],
            [top],
            kernels=list(window.kernel),
            strides=list(window.stride),
            pads=window.pads,
            group=groups,
            order="NCHW",
            **dilations,
        )


def pooling(site: Site) -> None:
    """MaxPool and AveragePool, rounded up by padding behind: legacy_pad forgets what Caffe divides by."""
    params = site.layer.params.message("pooling_param")
    largest = params.text("pool", "MAX") in {"MAX", "0"}
    kind = "MaxPool" if largest else "AveragePool"
    if params.flag("global_pooling", False):
        site.plain(kind, global_pooling=1, order="NCHW")
        return
    window, extra = pooling_window(params, site.sizes(range(2, site.rank())))
    (bottom,), begin, end = site.layer.bottoms, list(window.begin), list(window.end)
    counted = not largest and any(begin + end)
    if counted and any(extra):
        padded = site.between("padded")
        site.add(
            "PadImage", [bottom], [padded], pads=[*begin, *end], mode="constant", value=0.0, order="NCHW"
        )
        bottom, begin, end, counted = padded, [0, 0], [0, 0], False
    ends = [each + more for each, more in zip(end, extra, strict=True)]
    counting = {"count_include_pad": 1} if counted else {}
    site.add(
        kind,
        [bottom],
        site.layer.tops,
        kernels=list(window.kernel),
        strides=list(window.stride),
        pads=[*begin, *ends],
        order="NCHW",
        **counting,
    )


def inner_product(site: Site) -> None:
    """FC."""
    layer, params = site.layer, site.layer.params.message("inner_product_param")
    axis = axis_of(params.whole("axis", 1), site.rank(), layer.name)
    features = int(np.prod(site.sizes(range(axis, site.rank()))))
    units = params.whole("num_output")
    turned = params.flag("transpose", False)
    weight = blob(layer, 0, (features, units)).T if turned else blob(layer, 0, (units, features))
    bias = blob(layer, 1, (units,)) if params.flag("bias_term", True) else np.zeros(units, np.float32)
    site.add("FC", [*layer.bottoms, site.weight("w", weight), site.weight("b", bias)], layer.tops, axis=axis)


def batch_norm(site: Site) -> None:
    """SpatialBN with a factor of 1 and nothing added."""
    (channels,) = site.sizes([1])
    mean, variance = batch_statistics(site.layer, channels)
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    named = (("scale", ones), ("bias", zeros), ("mean", mean), ("var", variance))
    names = [site.weight(suffix, values) for suffix, values in named]
    epsilon = site.layer.params.message("batch_norm_param").number("eps", 1e-5)
    if site.rank() < 3:
        raise ConversionFailed("Caffe2's SpatialBN needs images")
    site.add(
        "SpatialBN", [*site.layer.bottoms, *names], site.layer.tops, is_test=1, epsilon=epsilon, order="NCHW"
    )


def lrn(site: Site) -> None:
    """LRN across channels; the other kind Caffe2 does not have."""
    params = site.layer.params.message("lrn_param")
    if params.text("norm_region", "ACROSS_CHANNELS") not in {"ACROSS_CHANNELS", "0"}:
        raise ConversionFailed("Caffe2 has no LRN within channels")
    site.plain(
        "LRN",
        size=params.whole("local_size", 5),
        alpha=params.number("alpha", 1.0),
        beta=params.number("beta", 0.75),
        bias=params.number("k", 1.0),
        order="NCHW",
    )


def softmax(site: Site) -> None:
    """Softmax, which in Caffe2 goes over everything from an axis on: others are turned to the end."""
    rank = site.rank()
    axis = axis_of(site.layer.params.message("softmax_param").whole("axis", 1), rank, site.layer.name)
    if axis == rank - 1 or set(site.sizes(range(axis + 1, rank))) == {1}:
        site.plain("Softmax", axis=axis)
        return
    order = [*(at for at in range(rank) if at != axis), axis]
    back = [order.index(at) for at in range(rank)]
    turned, result = site.between("turned"), site.between("softmax")
    site.add("Transpose", site.layer.bottoms, [turned], axes=order)
    site.add("Softmax", [turned], [result], axis=rank - 1)
    site.add("Transpose", [result], site.layer.tops, axes=back)


def concat(site: Site) -> None:
    """Concat; Caffe2 wants a place for the sizes."""
    params = site.layer.params.message("concat_param")
    axis = params.whole("concat_dim") if params.has("concat_dim") else params.whole("axis", 1)
    axis = axis_of(axis, site.rank(), site.layer.name)
    site.add("Concat", site.layer.bottoms, [*site.layer.tops, site.between("dims")], axis=axis)


def slices(site: Site) -> None:
    """Split."""
    params = site.layer.params.message("slice_param")
    axis = params.whole("slice_dim") if params.has("slice_dim") else params.whole("axis", 1)
    axis = axis_of(axis, site.rank(), site.layer.name)
    (size,) = site.sizes([axis])
    sizes = slice_sizes(size, params.ints("slice_point"), len(site.layer.tops))
    site.plain("Split", axis=axis, split=sizes)


def reshape(site: Site) -> None:
    """Reshape and Flatten to the sizes that the layer's result has; the batch stays free."""
    shape = site.shapes.shape(site.tops[0])
    kept = shape[:1] == site.shapes.shape(site.bottoms[0])[:1]
    behind = site.shapes.known(site.tops[0], range(1, len(shape)))
    first = 0 if kept else site.shapes.known(site.tops[0], [0])[0]
    site.add("Reshape", site.layer.bottoms, [*site.layer.tops, site.between("shape")], shape=[first, *behind])


def permute(site: Site) -> None:
    """Transpose."""
    order = site.layer.params.message("permute_param").ints("order")
    order += [axis for axis in range(site.rank()) if axis not in order]
    site.plain("Transpose", axes=order)


def crop(site: Site) -> None:
    """A Slice for each dimension, since Caffe2 cuts one at a time."""
    params = site.layer.params.message("crop_param")
    rank = site.rank()
    axis = axis_of(params.whole("axis", 2), rank, site.layer.name)
    offsets = params.ints("offset") or [0]
    offsets = offsets * (rank - axis) if len(offsets) == 1 else offsets
    sizes = site.shapes.known(site.tops[0], range(axis, rank))
    source = site.layer.bottoms[0]
    for at, (start, size) in enumerate(zip(offsets, sizes, strict=True), axis):
        target = site.layer.tops[0] if at == rank - 1 else site.between(f"cut{at}")
        starts, ends = [0] * rank, [-1] * rank
        starts[at], ends[at] = start, start + size
        site.add("Slice", [source], [target], starts=starts, ends=ends)
        source = target


def shuffle(site: Site) -> None:
    """ChannelShuffle."""
    groups = site.layer.params.message("shuffle_channel_param").whole("group", 1)
    site.plain("ChannelShuffle", group=groups, kernel=1, order="NCHW")


def tile(site: Site) -> None:
    """Tile."""
    params = site.layer.params.message("tile_param")
    axis = axis_of(params.whole("axis", 1), site.rank(), site.layer.name)
    site.plain("Tile", axis=axis, tiles=params.whole("tiles"))


OPS: dict[str, Op] = {
    "BatchNorm": batch_norm,
    "Concat": concat,
    "Convolution": convolution,
    "ConvolutionDepthwise": convolution,
    "Crop": crop,
    "Deconvolution": convolution,
    "DepthwiseConvolution": convolution,
    "Flatten": reshape,
    "InnerProduct": inner_product,
    "LRN": lrn,
    "Permute": permute,
    "Pooling": pooling,
    "Reshape": reshape,
    "ShuffleChannel": shuffle,
    "Slice": slices,
    "Softmax": softmax,
    "Tile": tile,
}
