"""The sizes that Reshape and Slice layers ask for; shared by the op maps and the interpreter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from catchment.errors import ConversionFailed
from catchment.formats.convert.caffe.model import Layer

Dim = int | str | None


def reshaped(layer: Layer, shape: Sequence[Dim]) -> list[Dim]:
    """The shape behind a Reshape layer; only dimensions that stay may be free.

    Raises:
        ConversionFailed: the numbers of values differ, or more than one dimension is -1.
    """
    params = layer.params.message("reshape_param")
    wanted = params.message("shape").ints("dim")
    rank = len(shape)
    start = params.whole("axis", 0)
    start = start + rank + 1 if start < 0 else start
    count = params.whole("num_axes", -1)
    end = rank if count == -1 else start + count
    if not 0 <= start <= end <= rank or wanted.count(-1) > 1 or any(dim < -1 for dim in wanted):
        raise ConversionFailed(f"reshape_param asks for {wanted} at dimension {start} of {list(shape)}")
    replaced = list(shape[start:end])
    found: list[Dim] = []
    for at, dim in enumerate(wanted):
        if dim == 0 and at >= len(replaced):
            raise ConversionFailed(f"dimension {at} of {wanted} is kept, but {list(shape)} has none there")
        found.append(replaced[at] if dim == 0 else dim)
    if -1 in found:
        found[found.index(-1)] = _rest(replaced, found, wanted)
    return [*shape[:start], *found, *shape[end:]]


def _rest(replaced: list[Dim], found: list[Dim], wanted: list[int]) -> Dim:
    """What -1 stands for: the values that the other dimensions leave; free when the batch is among them."""
    before = list(replaced)
    for dim in [each for each in found if not isinstance(each, int)]:
        before.remove(dim)
    known = math.prod(dim for dim in found if isinstance(dim, int) and dim != -1)
    if any(not isinstance(dim, int) for dim in before):
        return None
    total = math.prod(dim for dim in before if isinstance(dim, int))
    if known < 1 or total % known:
        raise ConversionFailed(f"{list(replaced)} cannot become {wanted}")
    return total // known


def slice_sizes(size: int, points: Sequence[int], count: int) -> list[int]:
    """Sizes of the pieces of a Slice layer.

    Raises:
        ConversionFailed: the points do not rise, or do not fit the number of tops.
    """
    if not points:
        if count < 1 or size % count:
            raise ConversionFailed(f"{size} cannot be cut into {count} equal pieces")
        return [size // count] * count
    edges = [0, *points, size]
    sizes = [after - before for before, after in itertools.pairwise(edges)]
    if min(sizes) < 1 or len(sizes) != count:
        raise ConversionFailed(f"slice points {list(points)} do not cut {size} into {count} pieces")
    return sizes
