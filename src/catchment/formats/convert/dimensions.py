"""Sizes that a model may have here, and shapes that a user gives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.report import Inputs

LARGEST_DIM = 2**31 - 1
LARGEST_TENSOR_BYTES = 2**31 - 2**20
"""A protobuf file ends at 2 GiB, and so does an ONNX model without external data."""


def checked_size(shape: Sequence[int], what: str, itemsize: int = 4) -> int:
    """Number of elements of a tensor of that shape.

    Raises:
        ConversionFailed: a dimension is negative, or the tensor would not fit into a file of 2 GiB.
    """
    if any(dim < 0 or dim > LARGEST_DIM for dim in shape):
        raise ConversionFailed(f"{what} has the shape {list(shape)}; dimensions are 0 to {LARGEST_DIM}")
    size = math.prod(shape)
    if size * itemsize > LARGEST_TENSOR_BYTES:
        raise ConversionFailed(
            f"{what} of shape {list(shape)} would need {size * itemsize} bytes, beyond 2 GiB"
        )
    return size


def shaped(values: np.ndarray, shape: Sequence[int], what: str) -> np.ndarray:
    """The values in that shape.

    Raises:
        ConversionFailed: there are more or fewer values than the shape has places.
    """
    if checked_size(shape, what) != values.size:
        raise ConversionFailed(
            f"{what} has {values.size} values, the shape {list(shape)} needs {math.prod(shape)}"
        )
    return values.reshape(shape)


def given_shape(inputs: Inputs | None, name: str) -> tuple[int, ...] | None:
    """The shape that a user gave for an input, or None.

    Raises:
        ConversionFailed: a dimension is 0 or too large, or -1 stands elsewhere than in front.
    """
    if inputs is None or name not in inputs:
        return None
    shape = tuple(int(dim) for dim in inputs[name])
    good = all(0 < dim <= LARGEST_DIM for dim in shape[1:]) and (not shape or shape[0] == -1 or shape[0] > 0)
    if not good:
        raise ConversionFailed(
            f"inputs.{name} is {list(shape)}; dimensions are at least 1, "
            "and only the first may be -1 (free batch)"
        )
    checked_size([abs(dim) for dim in shape], f"inputs.{name}")
    return shape


def refuse_unknown_inputs(inputs: Inputs | None, known: Sequence[str]) -> None:
    """Refuse shapes for inputs that the model does not have.

    Raises:
        ConversionFailed: `inputs` names one that is none.
    """
    unknown = sorted(set(inputs or ()) - set(known))
    if unknown:
        raise ConversionFailed(f"inputs names {unknown}, but the model's inputs are {sorted(known)}")


def missing_shapes(names: Sequence[str], where: str) -> ConversionFailed:
    """The refusal of a model whose file has no shape for these inputs."""
    example = ", ".join(f'"{name}": [1, ...]' for name in names)
    return ConversionFailed(
        f"{where} holds no shape for the input {', '.join(names)}; give it as inputs: {{{example}}}"
    )
