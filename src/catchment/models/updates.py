"""Checking that a client update fits the round's weights and holds numbers only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from catchment.errors import BadTensors, TensorMismatch
from catchment.models.interfaces import Tensors
from catchment.models.signature import Array, Signature, update_signature

BLOCK_ELEMENTS = 2**17
"""Elements that blockwise work takes at a time: 512 KiB of float32 stay in a core's cache."""

_NAMED = 3


def check_update(update: Tensors, weights: Signature) -> None:
    """Check that `update` is a client update to weights of that signature; reads it once, blockwise.

    Raises:
        TensorMismatch: tensors are missing, unknown, of another shape or dtype; names the first of each.
        BadTensors: a tensor holds NaN or infinite values; names it.
    """
    check_fits(update.signature, update_signature(weights))
    check_finite(update)


def check_fits(found: Signature, expected: Signature) -> None:
    """Check that an update holds the tensors that it should.

    Raises:
        TensorMismatch: tensors are missing, unknown, of another shape or dtype; names the first of each.
    """
    problems = signature_problems(found, expected)
    if problems:
        raise TensorMismatch("the update does not fit the model: " + "; ".join(problems))


def check_finite(tensors: Tensors) -> None:
    """Check that all floating-point tensors hold finite numbers only.

    Raises:
        BadTensors: names the first tensor that does not.
    """
    for name, info in tensors.signature.items():
        if not info.is_float:
            continue
        for start, stop in blocks(info.num_elements):
            if not all_finite(tensors.block(name, start, stop)):
                raise BadTensors(f"tensor '{name}' holds NaN or infinite values")


def all_finite(values: Array) -> bool:
    """Whether no value is NaN or infinite."""
    return bool(np.isfinite(values).all())


def blocks(num_elements: int, block_elements: int = BLOCK_ELEMENTS) -> Iterator[tuple[int, int]]:
    """Consecutive ranges (start, stop) that cover `num_elements`."""
    for start in range(0, num_elements, block_elements):
        yield start, min(start + block_elements, num_elements)


def signature_problems(found: Signature, expected: Signature) -> list[str]:
    """Sentences that say how `found` differs from `expected`; the order of tensors does not matter."""
    both = [name for name in expected if name in found]
    groups = (
        ("missing", [name for name in expected if name not in found]),
        ("unexpected", [name for name in found if name not in expected]),
        (
            "wrong shape",
            [
                f"{name} {list(found[name].shape)} instead of {list(expected[name].shape)}"
                for name in both
                if found[name].shape != expected[name].shape
            ],
        ),
        (
            "wrong dtype",
            [
                f"{name} {found[name].dtype} instead of {expected[name].dtype}"
                for name in both
                if found[name].dtype != expected[name].dtype
            ],
        ),
    )
    return [_sentence(kind, items) for kind, items in groups if items]


def _sentence(kind: str, items: Iterable[str]) -> str:
    shown = list(items)
    rest = len(shown) - _NAMED
    return f"{kind}: {', '.join(shown[:_NAMED])}" + (f" and {rest} more" if rest > 0 else "")
