"""One operator after the other: the unknown are listed before anything is done, a fault names its place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from catchment.errors import ConversionFailed, UnsupportedOperators


def refuse_unsupported(found: Sequence[tuple[str, str]], known: Collection[str], noun: str) -> None:
    """Refuse a network with operators that have no map.

    Args:
        found: (name, type) of each operator.
        known: types that can be converted.
        noun: what the format calls an operator.

    Raises:
        UnsupportedOperators: lists every one with the names of its places.
    """
    places: dict[str, list[str]] = {}
    for name, kind in found:
        if kind not in known:
            places.setdefault(kind, []).append(name or "(no name)")
    if places:
        raise UnsupportedOperators(noun, places)


@contextmanager
def step(noun: str, name: str, kind: str) -> Iterator[None]:
    """Name the operator in whatever goes wrong inside; wrong numbers of a file end as TypeError and its like.

    Raises:
        ConversionFailed: for everything that a file's content can cause.
    """
    try:
        yield
    except ConversionFailed as problem:
        raise ConversionFailed(f"{noun} '{name}' ({kind}): {problem}") from None
    except (ValueError, IndexError, KeyError, TypeError, ArithmeticError, MemoryError) as problem:
        said = str(problem).strip().splitlines() or [type(problem).__name__]
        raise ConversionFailed(
            f"{noun} '{name}' ({kind}) cannot be converted as it stands: {said[0]}"
        ) from problem
