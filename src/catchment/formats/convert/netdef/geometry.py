"""Windows, axes and shapes as Caffe2's operators give them; shared by the op maps and the interpreter."""

from __future__ import annotations

import math
from collections.abc import Sequence

from catchment.errors import ConversionFailed
from catchment.formats.convert.netdef.arguments import Arguments
from catchment.formats.convert.windows import Window, spread

NOT_SET, VALID, SAME, CAFFE = range(4)
"""legacy_pad of caffe2's ConvPoolOpBase; CAFFE rounds the places up."""


def refuse_channels_last(arguments: Arguments) -> None:
    """Refuse order NHWC.

    Raises:
        ConversionFailed: it is that.
    """
    if arguments.text("order", "NCHW") != "NCHW":
        raise ConversionFailed(f"order {arguments.text('order')} cannot be converted, only NCHW")


def _pair(
    arguments: Arguments, one: str, many: str, both: tuple[str, ...], default: int | None, rank: int
) -> list[int]:
    """`kernel`, `kernels` or `kernel_h` and `kernel_w`, and their like."""
    if any(arguments.has(name) for name in both):
        return [arguments.whole(name, default) for name in both]
    if arguments.has(many):
        return arguments.wholes(many)
    return [arguments.whole(one, default)] * (2 * rank if many == "pads" else rank)


def window(arguments: Arguments, sizes: Sequence[int]) -> tuple[Window, tuple[int, ...]]:
    """The window of a convolution or pooling over an image of these sizes, and what hangs over behind it."""
    refuse_channels_last(arguments)
    rank = len(sizes)
    kernel = spread(_pair(arguments, "kernel", "kernels", ("kernel_h", "kernel_w"), None, rank), rank)
    stride = spread(_pair(arguments, "stride", "strides", ("stride_h", "stride_w"), 1, rank), rank)
    dilation = spread(_pair(arguments, "dilation", "dilations", ("dilation_h", "dilation_w"), 1, rank), rank)
    pads = _pair(arguments, "pad", "pads", ("pad_t", "pad_l", "pad_b", "pad_r"), 0, rank)
    if len(pads) != 2 * rank:
        raise ConversionFailed(f"pads {pads} are no two numbers for each of {rank} dimensions")
    legacy = arguments.whole("legacy_pad", NOT_SET)
    begin, end = tuple(pads[:rank]), tuple(pads[rank:])
    if legacy == VALID:
        begin = end = (0,) * rank
    elif legacy == SAME:
        begin, end = _same(sizes, kernel, stride, dilation)
    elif legacy == CAFFE:
        end = begin
    elif legacy != NOT_SET:
        raise ConversionFailed(f"legacy_pad {legacy} is not known")
    found = Window(kernel, stride, begin, end, dilation)
    return found, _overhang(found, sizes) if legacy == CAFFE else (0,) * rank


def _overhang(found: Window, sizes: Sequence[int]) -> tuple[int, ...]:
    """Unlike Caffe, Caffe2 drops a window behind the image only where that very dimension is padded."""
    extra: list[int] = []
    for at, size in enumerate(sizes):
        one = Window(
            *(
                each[at : at + 1]
                for each in (found.kernel, found.stride, found.begin, found.end, found.dilation)
            )
        )
        extra += one.overhang([size], clip=True)
    return tuple(extra)


def _same(
    sizes: Sequence[int], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """As many places as the image has steps; of an odd padding the larger half is behind."""
    totals = [
        max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
        for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
    ]
    return tuple(each // 2 for each in totals), tuple(each - each // 2 for each in totals)


def transposed_window(arguments: Arguments, rank: int) -> tuple[Window, tuple[int, ...]]:
    """The window of ConvTranspose, and the rows that `adj` adds."""
    found, _ = window(arguments, [1] * rank)
    if arguments.whole("legacy_pad", NOT_SET) != NOT_SET:
        raise ConversionFailed("legacy_pad of ConvTranspose cannot be converted")
    return found, spread(_pair(arguments, "adj", "adjs", ("adj_h", "adj_w"), 0, rank), rank)


def axis_of(arguments: Arguments, name: str, default: int, rank: int) -> int:
    """A dimension counted from the front.

    Raises:
        ConversionFailed: there is no such dimension.
    """
    axis = arguments.whole(name, default)
    if not -rank <= axis < rank:
        raise ConversionFailed(f"{name} {axis} is no dimension of {rank}")
    return axis % rank


def concat_axis(arguments: Arguments, rank: int) -> int:
    """The dimension of Concat and Split; by default the channels, last in the order NHWC."""
    return axis_of(arguments, "axis", 1 if arguments.text("order", "NCHW") == "NCHW" else rank - 1, rank)


def reshaped(wanted: Sequence[int], shape: Sequence[int | str | None]) -> list[int]:
    """The numbers of Reshape for ONNX; 0 keeps a dimension in both."""
    known = math.prod(dim for dim in shape if isinstance(dim, int))
    if any(dim < -1 for dim in wanted) or list(wanted).count(-1) > 1 or known < 1:
        raise ConversionFailed(f"the shape {list(wanted)} is none")
    return list(wanted)


def slice_ends(ends: Sequence[int], shape: Sequence[int]) -> list[int]:
    """The ends of Slice, where -1 is the end of the dimension itself, -2 one before it."""
    return [end if end >= 0 else size + end + 1 for end, size in zip(ends, shape, strict=True)]


def broadcast_axis(arguments: Arguments, first: int, second: int) -> int | None:
    """Where the second of two tensors stands in the first, by their ranks; None for numpy's rules."""
    if not arguments.whole("broadcast", 0) or not arguments.has("axis") or arguments.whole("axis") == -1:
        return None
    axis = arguments.whole("axis")
    if not 0 <= axis <= first - second:
        raise ConversionFailed(f"axis {axis} has no room for {second} dimensions in {first}")
    return axis
