"""Inputs that a model is tried with: random ones from a seed, and those that find faults (NumPy only)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catchment.errors import InvalidField
from catchment.formats.convert.tensor_spec import TensorSpec

Arrays = dict[str, NDArray[Any]]

TENSORS = "tensors"
"""The sample of a file without a graph: it takes nothing and gives its tensors."""
RANDOM = "random"
LARGE = 100.0
"""The "large" sample is so many times a normal one; its rounding errors are as much larger."""
KNOWN = "known"
KNOWN_ROWS = 64
KNOWN_SCALE = 10.0
"""Of rounding errors where a model's answers change: they are sums of many numbers, most of which cancel."""
MAX_ELEMENTS = 50_000_000
LENGTH, OTHER_LENGTH = 8, 16
"""Of open dimensions behind the first one. One random sample has the other: what a converter took for fixed
is found so. Both can be halved, as poolings do."""
_WHOLE_NUMBERS = 4
"""Random integers are below this: they may be indices, and small ones exist in every table."""


@dataclass(frozen=True)
class Kind:
    """How one sample is made.

    Attributes:
        name: "random-0", "zeros", "ones", "large", "missing", "wide", "known".
        batch: length of the first dimension where it is open.
        scale: of the values, and of the rounding errors that are allowed for it.
        length: of the other dimensions where they are open.
    """

    name: str
    batch: int
    scale: float = 1.0
    length: int = LENGTH


@dataclass(frozen=True)
class Known:
    """Places that a model has learned, around which its answers change.

    Attributes:
        rows: values of its only input, [n, *the input's other dimensions]; n is 0 where it has learned none.
        scale: of the rounding errors that are allowed for them.
        notes: why there are none where there could be some, in sentences.
    """

    rows: NDArray[Any] = field(default_factory=lambda: np.empty(0))
    scale: float = KNOWN_SCALE
    notes: tuple[str, ...] = ()


def kinds(inputs: Sequence[TensorSpec], *, randoms: int = 3, missing: bool = False) -> tuple[Kind, ...]:
    """The samples of one gate; open dimensions have different lengths, so that one that is fixed is found.

    Args:
        inputs: of the model.
        randoms: how many random ones.
        missing: also one with NaN in it, for models that take that as "not known". These are trees, and have
            one of all magnitudes too: a tree that splits at 20,000 says the same of all small values.
    """
    if not inputs:
        return (Kind(TENSORS, 1),)
    lengths = [LENGTH] * (randoms - 1) + [OTHER_LENGTH]
    drawn = [Kind(f"{RANDOM}-{index}", 1 + index, length=length) for index, length in enumerate(lengths)]
    fixed = [Kind("zeros", 2), Kind("ones", 2), Kind("large", 2, LARGE)]
    return (*drawn, *fixed, *([Kind("missing", 4), Kind("wide", 64)] if missing else []))


def draw(inputs: Sequence[TensorSpec], kind: Kind, generator: np.random.Generator) -> Arrays:
    """One value for each input.

    Raises:
        InvalidField: an input has no shape, is of text, or would be too large.
    """
    return {each.name: _drawn(each, kind, generator) for each in inputs}


def known(spec: TensorSpec, found: Known) -> tuple[Kind, Arrays] | None:
    """The sample of these rows; None: there are not enough for the input's batch."""
    batch = spec.shape[0] if spec.shape else None
    rows = found.rows[: batch or KNOWN_ROWS]
    if len(rows) < (batch or 1):
        return None
    return Kind(KNOWN, len(rows), found.scale), {spec.name: rows.astype(spec.dtype)}


def draw_all(inputs: Sequence[TensorSpec], wanted: Iterable[Kind], seed: int) -> list[Arrays]:
    """One sample of each kind; the same seed gives the same ones."""
    return [draw(inputs, kind, generator(seed, index)) for index, kind in enumerate(wanted)]


def generator(seed: int, index: int) -> np.random.Generator:
    """What the sample of that number is drawn with."""
    return np.random.default_rng([seed, index])


def _drawn(spec: TensorSpec, kind: Kind, generator: np.random.Generator) -> NDArray[Any]:
    shape = _lengths(spec, kind)
    if spec.dtype == "bool":
        return generator.random(shape) < _share_of_true(kind)
    dtype = np.dtype(spec.dtype)
    if kind.name in ("zeros", "ones"):
        return np.full(shape, int(kind.name == "ones"), dtype)
    if dtype.kind in "iu":
        return generator.integers(0, _whole_numbers(dtype, shape), shape).astype(dtype)
    values = kind.scale * generator.standard_normal(shape)
    if kind.name == "wide":
        values *= 10 ** generator.uniform(-2, 6, shape)
    if kind.name == "missing":
        values = np.where(generator.random(shape) < 0.3, np.nan, values)
    return values.astype(dtype)


def _whole_numbers(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Bytes of at least three dimensions are an image's, which no table is looked up with."""
    return 256 if dtype == np.uint8 and len(shape) >= 3 else _WHOLE_NUMBERS


def _share_of_true(kind: Kind) -> float:
    return {"zeros": 0.0, "ones": 1.1}.get(kind.name, 0.5)


def _lengths(spec: TensorSpec, kind: Kind) -> tuple[int, ...]:
    field = f"inputs.{spec.name}"
    if spec.dtype == "string":
        raise InvalidField(field, "is of text; no text can be drawn to compare source and result with")
    if spec.shape is None:
        raise InvalidField(field, "has no shape in the file; give its `size`")
    shape = tuple(
        (kind.batch if index == 0 else kind.length) if length is None else length
        for index, length in enumerate(spec.shape)
    )
    elements = 1
    for length in shape:
        elements *= length
    if elements > MAX_ELEMENTS:
        raise InvalidField(field, f"would have {elements} elements, at most {MAX_ELEMENTS} are tried")
    return shape
