"""Windows and axes as Caffe's layers give them; shared by the op maps and the interpreter."""

from __future__ import annotations

from collections.abc import Sequence

from catchment.errors import ConversionFailed
from catchment.formats.convert.caffe.params import Params
from catchment.formats.convert.windows import Window, spread


def axis_of(value: int, rank: int, layer: str) -> int:
    """A dimension counted from the front.

    Raises:
        ConversionFailed: there is no such dimension.
    """
    if not -rank <= value < rank:
        raise ConversionFailed(f"the layer '{layer}' names dimension {value} of {rank}")
    return value % rank


def _numbers(params: Params, repeated: str, pair: str, default: int | None, rank: int) -> tuple[int, ...]:
    """`pad` or `pad_h`/`pad_w` and their like, one number for each spatial dimension."""
    if params.has(f"{pair}_h") or params.has(f"{pair}_w"):
        return spread([params.whole(f"{pair}_h", default), params.whole(f"{pair}_w", default)], rank)
    values = params.ints(repeated)
    return spread(values if values else params.whole(repeated, default), rank)


def convolution_window(params: Params, rank: int) -> Window:
    """The window of convolution_param over `rank` spatial dimensions."""
    pads = _numbers(params, "pad", "pad", 0, rank)
    return Window(
        _numbers(params, "kernel_size", "kernel", None, rank),
        _numbers(params, "stride", "stride", 1, rank),
        pads,
        pads,
        _numbers(params, "dilation", "dilation", 1, rank),
    )


def pooling_window(params: Params, sizes: Sequence[int]) -> tuple[Window, tuple[int, ...]]:
    """The window of pooling_param on a flat image, and the rows that hang over behind (ceil)."""
    if len(sizes) != 2:
        raise ConversionFailed(f"pooling needs blobs of 4 dimensions, here are {len(sizes) + 2}")
    pads = _numbers(params, "pad", "pad", 0, 2)
    kernel = (
        tuple(sizes)
        if params.flag("global_pooling", False)
        else _numbers(params, "kernel_size", "kernel", None, 2)
    )
    window = Window(kernel, _numbers(params, "stride", "stride", 1, 2), pads, pads, (1, 1))
    rounds = params.text("round_mode", "CEIL")
    if rounds not in {"CEIL", "FLOOR", "0", "1"}:
        raise ConversionFailed(f"round_mode is {rounds}, CEIL or FLOOR is expected")
    return window, window.overhang(sizes, clip=True) if rounds in {"CEIL", "0"} else (0, 0)
