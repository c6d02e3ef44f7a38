"""What tensors are read from and written to: files, parts of files, decoded updates."""

from __future__ import annotations

from typing import Protocol

from numpy.typing import DTypeLike

from catchment.models.signature import Array, Signature


class Tensors(Protocol):
    """Named tensors that are read blockwise, as a TensorFile gives them."""

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes."""

    def array(self, name: str) -> Array:
        """The whole tensor in its shape; BF16 as its bits. Raises BadTensors when there is none."""

    def block(self, name: str, start: int, stop: int, dtype: DTypeLike | None = None) -> Array:
        """Elements `start` to `stop` of the flattened tensor; float32 for F16 and BF16."""


class Sink(Protocol):
    """What takes new weights, tensor by tensor in the order of the weights' signature."""

    def write(self, name: str, array: Array) -> None:
        """Write a whole tensor, cast once to its dtype. Raises BadTensors when it does not fit."""

    def write_block(self, name: str, block: Array) -> None:
        """Append the next values, flat, of a tensor. Raises BadTensors when they do not fit."""
