"""What a client keeps from round to round, and what the coordinator tells all clients: named arrays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catchment.errors import SdkError
from catchment.models.reading import TensorFile
from catchment.models.signature import Array, TensorInfo
from catchment.strategies.vectors import CONTROL
from catchment.wire.task import CLIENT_STATE, STATE

DRIFT = "@drift/"
"""FedDC: the client's drift h_k from the global weights, by tensor."""


@dataclass(frozen=True)
class Arrays:
    """Named arrays of a file; zero where there is no file or no such array."""

    file: TensorFile | None

    def holds(self, name: str) -> bool:
        """Whether the array is there."""
        return self.file is not None and name in self.file.signature

    def block(self, name: str, info: TensorInfo, start: int, stop: int) -> NDArray[np.float64]:
        """Elements `start` to `stop` of the flat array of a tensor of that shape.

        Raises:
            SdkError: the array is of another size.
        """
        if self.file is None or name not in self.file.signature:
            return np.zeros(min(stop, info.num_elements) - start)
        if self.file.signature[name].num_elements != info.num_elements:
            raise SdkError(f"'{name}' in {self.file.path.name} is {self.file.signature[name]}, not {info}")
        values: NDArray[np.float64] = self.file.block(name, start, stop, np.float64)
        return values

    def tensor(self, name: str, info: TensorInfo) -> Array:
        """A tensor of the model that is there, as it was kept; an array of its own.

        Raises:
            SdkError: it is of another shape.
        """
        if self.file is None or self.file.signature[name].shape != info.shape:
            raise SdkError(f"'{name}' as this site kept it is of another shape than the round's weights")
        return self.file.values(name).copy()

    def values(self, name: str, info: TensorInfo) -> Array:
        """The whole array in the tensor's shape."""
        return self.block(name, info, 0, info.num_elements).reshape(info.shape)


@dataclass(frozen=True)
class States:
    """What a client begins a round with, besides the weights.

    Attributes:
        everybody: the strategy's arrays, the same at all clients.
        own: what this client kept of its last round.
    """

    everybody: Arrays
    own: Arrays

    def control_shift(self, name: str, info: TensorInfo) -> NDArray[np.float64] | None:
        """c - c_k of a tensor, in its shape; None where both are zero because nobody has one yet."""
        if not (self.everybody.holds(CONTROL + name) or self.own.holds(CONTROL + name)):
            return None
        shift: NDArray[np.float64] = self.everybody.values(CONTROL + name, info) - self.own.values(
            CONTROL + name, info
        )
        return shift


@contextmanager
def states(folder: Path) -> Iterator[States]:
    """The arrays in a task folder.

    Raises:
        BadTensors: a file is damaged.
    """
    files = [
        TensorFile.open(folder / name) if (folder / name).exists() else None for name in (STATE, CLIENT_STATE)
    ]
    try:
        yield States(*map(Arrays, files))
    finally:
        for file in files:
            if file is not None:
                file.close()
