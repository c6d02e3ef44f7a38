"""The codes of MXNet's Reshape (mxnet, src/operator/tensor/matrix_op.cc)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from catchment.errors import ConversionFailed

Dim = int | str | None


def reshaped(shape: Sequence[Dim], wanted: Sequence[int], reverse: bool) -> list[Dim]:
    """The shape that the codes lead to.

    Args:
        shape: of the tensor; the batch may be free.
        wanted: 0 keeps a dimension, -1 is the rest, -2 copies all that follow, -3 joins two, -4 splits one.
        reverse: read both from the right.

    Raises:
        ConversionFailed: the codes do not fit the shape.
    """
    if reverse:
        if -4 in wanted:
            raise ConversionFailed("the code -4 cannot be converted with reverse")
        return list(reversed(reshaped(list(reversed(shape)), list(reversed(wanted)), reverse=False)))
    try:
        found = _walk(list(shape), list(wanted))
    except IndexError:
        raise ConversionFailed(f"{list(shape)} cannot become {list(wanted)}") from None
    if -1 in found:
        found[found.index(-1)] = _rest(shape, found, wanted)
    return found


def _walk(left: list[Dim], codes: list[int]) -> list[Dim]:
    found: list[Dim] = []
    while codes:
        code = codes.pop(0)
        if code == 0:
            found.append(left.pop(0))
        elif code == -2:
            found += left
            left = []
        elif code == -3:
            found.append(_joined(left.pop(0), left.pop(0)))
        elif code == -4:
            found += _split(left.pop(0), codes.pop(0), codes.pop(0))
        elif code >= -1:
            found.append(code)
            del left[:1]
        else:
            raise ConversionFailed(f"the code {code} is not known")
    return found


def _joined(first: Dim, second: Dim) -> Dim:
    return first * second if isinstance(first, int) and isinstance(second, int) else None


def _split(whole: Dim, first: int, second: int) -> list[Dim]:
    if not isinstance(whole, int):
        return [None if part == -1 else part for part in (first, second)]
    if first == -1:
        first = whole // max(second, 1)
    if second == -1:
        second = whole // max(first, 1)
    if first * second != whole:
        raise ConversionFailed(f"{whole} cannot be split into {first} and {second}")
    return [first, second]


def _rest(shape: Sequence[Dim], found: list[Dim], wanted: Sequence[int]) -> Dim:
    """What -1 stands for; None when the batch is among it."""
    before = list(shape)
    for dim in [each for each in found if isinstance(each, str)]:
        before.remove(dim)
    if any(not isinstance(dim, int) for dim in before):
        return None
    total = math.prod(dim for dim in before if isinstance(dim, int))
    known = math.prod(dim for dim in found if isinstance(dim, int) and dim != -1)
    if known < 1 or total % known:
        raise ConversionFailed(f"{list(shape)} cannot become {list(wanted)}")
    return total // known
