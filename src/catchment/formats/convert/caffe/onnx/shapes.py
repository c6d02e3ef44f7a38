"""Layers that move values without changing them."""

from __future__ import annotations

from collections.abc import Sequence

from catchment.errors import ConversionFailed
from catchment.formats.convert.caffe.blobs import blob
from catchment.formats.convert.caffe.geometry import axis_of
from catchment.formats.convert.caffe.model import Layer
from catchment.formats.convert.caffe.onnx.op import Op
from catchment.formats.convert.caffe.reshape import reshaped, slice_sizes
from catchment.formats.convert.onnx_graph import OnnxGraph


def _reshape(graph: OnnxGraph, data: str, dims: Sequence[int | str | None]) -> str:
    """Reshape to dimensions of which the first may be free."""
    sizes = [dim if isinstance(dim, int) else -1 for dim in dims]
    if sizes.count(-1) > 1:
        raise ConversionFailed(f"'{data}' would have more than one free dimension: {list(dims)}")
    return graph.add("Reshape", [data, graph.ints(sizes)])


def concat(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """All bottoms behind each other along one dimension."""
    params = layer.params.message("concat_param")
    axis = params.whole("concat_dim") if params.has("concat_dim") else params.whole("axis", 1)
    return [graph.add("Concat", bottoms, axis=axis_of(axis, graph.rank(bottoms[0]), layer.name))]


def slices(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """Slice: pieces along one dimension, cut at the slice points or equal."""
    params = layer.params.message("slice_param")
    axis = params.whole("slice_dim") if params.has("slice_dim") else params.whole("axis", 1)
    axis = axis_of(axis, graph.rank(bottoms[0]), layer.name)
    (size,) = graph.known(bottoms[0], [axis])
    sizes = slice_sizes(size, params.ints("slice_point"), len(layer.tops))
    if len(sizes) == 1:
        return bottoms
    return graph.add_many("Split", [bottoms[0], graph.ints(sizes)], len(sizes), axis=axis)


def flatten(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """The dimensions `axis` to `end_axis` become one."""
    params = layer.params.message("flatten_param")
    rank = graph.rank(bottoms[0])
    first = axis_of(params.whole("axis", 1), rank, layer.name)
    last = axis_of(params.whole("end_axis", -1), rank, layer.name)
    if first == 1 and last == rank - 1:
        return [graph.add("Flatten", bottoms, axis=1)]
    shape = graph.shape(bottoms[0])
    merged = 1
    for dim in graph.known(bottoms[0], range(first, last + 1)):
        merged *= dim
    return [_reshape(graph, bottoms[0], [*shape[:first], merged, *shape[last + 1 :]])]


def reshape(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """Dimensions of reshape_param: 0 keeps one, -1 is what is left."""
    return [_reshape(graph, bottoms[0], reshaped(layer, graph.shape(bottoms[0])))]


def permute(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """Dimensions in another order; those that are not named follow (SSD)."""
    order = layer.params.message("permute_param").ints("order")
    order += [axis for axis in range(graph.rank(bottoms[0])) if axis not in order]
    if sorted(order) != list(range(graph.rank(bottoms[0]))):
        raise ConversionFailed(f"permute_param.order is {order}, each dimension is expected once")
    return [graph.add("Transpose", bottoms, perm=order)]


def shuffle(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """ShuffleChannel: channels of `group` groups in turn (ShuffleNet)."""
    groups = layer.params.message("shuffle_channel_param").whole("group", 1)
    batch = graph.shape(bottoms[0])[0]
    channels, *image = graph.known(bottoms[0], range(1, graph.rank(bottoms[0])))
    if groups < 1 or channels % groups:
        raise ConversionFailed(f"{channels} channels do not divide into {groups} groups")
    split = _reshape(graph, bottoms[0], [batch, groups, channels // groups, *image])
    order = [0, 2, 1, *range(3, 3 + len(image))]
    return [_reshape(graph, graph.add("Transpose", [split], perm=order), [batch, channels, *image])]


def tile(graph: OnnxGraph, layer: Layer, bottoms: list[str]) -> list[str]:
    """The blob `tiles` times along one dimension."""
    params = layer.params.message("tile_param")
    counts = [1] * graph.rank(bottoms[0])
    counts[axis_of(params.whole("axis", 1), len(counts), layer.name)] = params.whole("tiles")
    return [graph.add("Tile", [bottoms[0], graph.ints(counts)])]


def parameter(graph: OnnxGraph, layer: Layer, _bottoms: list[str]) -> list[str]:
    """A trained blob by itself."""
    shape = layer.params.message("parameter_param").message("shape").ints("dim")
    return [graph.constant(blob(layer, 0, shape or None), "parameter")]


OPS: dict[str, Op] = {
    "Concat": concat,
    "Flatten": flatten,
    "Parameter": parameter,
    "Permute": permute,
    "Reshape": reshape,
    "ShuffleChannel": shuffle,
    "Slice": slices,
    "Tile": tile,
}
