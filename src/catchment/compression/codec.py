"""What a compression does with one tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from catchment.models.signature import Array, Signature, TensorInfo
from catchment.models.tensors import TensorFile
from catchment.strategies.vectors import MARK

MIN_ELEMENTS = 64
"""Smaller tensors travel as they are: they weigh nothing, and a few of them carry exact numbers."""


def is_compressed(name: str, info: TensorInfo) -> bool:
    """Whether a tensor of an update is compressed at all."""
    return info.is_float and info.num_elements >= MIN_ELEMENTS and not name.startswith(MARK)


class Codec(ABC):
    """One way to store a float tensor in fewer bytes.

    Attributes:
        keeps_residual: what the encoding leaves out is added to the next update (error feedback).
    """

    keeps_residual = False

    @abstractmethod
    def stored(self, name: str, info: TensorInfo) -> Signature:
        """The tensors that tensor `name` of an update is stored as, in their order."""

    @abstractmethod
    def encode(self, name: str, values: Array, generator: np.random.Generator) -> Mapping[str, Array]:
        """Flat values of one tensor as the flat arrays that are stored.

        Raises:
            BadTensors: a value cannot be stored.
        """

    def left_out(self, name: str, values: Array, stored: Mapping[str, Array]) -> Array:
        """Flat values less what is stored of them; only asked where a residual is kept."""
        return np.zeros_like(values)

    @abstractmethod
    def check(self, file: TensorFile, name: str, info: TensorInfo) -> None:
        """Check what is stored of a tensor, so that `block` gives finite values only.

        Raises:
            BadTensors: it is damaged; names the tensor.
        """

    @abstractmethod
    def block(self, file: TensorFile, name: str, info: TensorInfo, start: int, stop: int) -> Array:
        """Elements `start` to `stop` of the flattened tensor, in `info.compute_dtype`; stop <= its size."""

    def wire_signature(self, update: Signature) -> Signature:
        """Names, dtypes and shapes of the compressed file of an update."""
        wire: Signature = {}
        for name, info in update.items():
            wire.update(self.stored(name, info) if is_compressed(name, info) else {name: info})
        return wire
