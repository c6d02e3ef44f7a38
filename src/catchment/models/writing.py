"""Writing tensor files as a stream, so that nothing half-written is ever seen under the file's name."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from catchment.durable import sync_folder
from catchment.errors import BadTensors
from catchment.models.casting import stored_values
from catchment.models.header import render_header
from catchment.models.signature import Array, Signature, info_of


class TensorWriter:
    """Streams tensors, in the signature's order, into a file that appears when all are there.

    As a context manager it closes the file, or removes what it wrote when the block raises.
    """

    def __init__(self, path: Path, temporary: Path, file: IO[bytes], signature: Signature) -> None:
        self.path = path
        self._temporary = temporary
        self._file = file
        self._signature = signature
        self._open_names = iter(signature)
        self._name: str | None = None
        self._missing = 0

    @classmethod
    def create(cls, path: Path, signature: Signature, metadata: Mapping[str, str] | None = None) -> Self:
        """A writer of `path`, beside which it works under a temporary name.

        Raises:
            BadTensors: the signature cannot be stored.
        """
        path = Path(path)
        header = render_header(signature, metadata or {})
        temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.tmp")
        file = temporary.open("xb")
        file.write(header)
        writer = cls(path, temporary, file, dict(signature))
        writer._advance()
        return writer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, name: str, array: Array) -> None:
        """Write a whole tensor, cast once to its dtype.

        Raises:
            BadTensors: wrong order, shape or kind of values, or a value that does not fit.
        """
        info = self._signature.get(name)
        if info is not None and array.shape != info.shape:
            raise BadTensors(f"tensor '{name}': shape {list(array.shape)} given, expected was {info}")
        if info is not None and info.num_elements == 0:
            return  # has no values; its turn passed by itself
        self.write_block(name, array.reshape(-1))

    def write_block(self, name: str, block: Array) -> None:
        """Append the next values, flat, of tensor `name`; blocks come in the signature's order.

        Raises:
            BadTensors: it is not this tensor's turn, there are too many values, or one does not fit.
        """
        if block.size == 0 and name in self._signature:
            return
        if name != self._name:
            raise BadTensors(f"tensor '{name}' was written where {self._expected()} was expected")
        if block.size > self._missing:
            raise BadTensors(f"tensor '{name}': {block.size} values, only {self._missing} are missing")
        stored = np.ascontiguousarray(stored_values(name, block, self._signature[name]))
        self._file.write(stored.reshape(-1).view(np.uint8).data)
        self._missing -= block.size
        if self._missing == 0:
            self._advance()

    def close(self) -> None:
        """Make the file durable and let it appear under its name.

        Raises:
            BadTensors: values are missing; nothing appears.
        """
        if self._name is not None:
            missing = self._expected()
            self.abort()
            raise BadTensors(f"{self.path.name} was closed while values of {missing} were missing")
        if self._file.closed:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(self.path)
        except OSError:
            self.abort()
            raise
        sync_folder(self.path.parent)

    def abort(self) -> None:
        """Remove what was written."""
        self._name = None
        with contextlib.suppress(OSError):  # closing flushes, and the disk may be full
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _advance(self) -> None:
        for name in self._open_names:
            self._missing = self._signature[name].num_elements
            if self._missing:
                self._name = name
                return
        self._name = None

    def _expected(self) -> str:
        return "the end" if self._name is None else f"'{self._name}'"


def write_tensors(
    path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None
) -> Signature:
    """Write arrays of any layout and byte order to a tensor file; return its signature.

    Raises:
        BadTensors: an array of complex numbers, objects or text; names the tensor.
    """
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    signature = {name: info_of(name, array) for name, array in arrays.items()}
    with TensorWriter.create(path, signature, metadata) as writer:
        for name, array in arrays.items():
            writer.write(name, array)
    return signature
