"""Reading tensor files: memory-mapped, so that a slice costs what the slice holds."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import DTypeLike

from catchment.errors import BadTensors
from catchment.models.casting import bfloat16_values
from catchment.models.header import LENGTH_BYTES, Header, header_bytes, parse_header
from catchment.models.signature import STORED_DTYPES, Array, Signature

READ_BYTES = 1 << 16
"""Smaller files are read, not mapped: that costs less than the mapping and its page faults."""
MAPPED_AROUND = 1 << 21
"""Reading a page may map so many bytes before it too (a large folio), among them what was given back."""


Contents = mmap.mmap | bytes | bytearray


class TensorFile:
    """A safetensors file, validated and mapped into memory read-only.

    Arrays that it gave out stay valid after `close`; the memory goes when the last of them does.

    Attributes:
        signature: names, dtypes and shapes in the header's order.
        metadata: the header's free text pairs.
        size_bytes: size of the whole file.
    """

    def __init__(self, path: Path, header: Header, mapped: Contents, *, writable: bool = False) -> None:
        self.path = path
        self.signature: Signature = header.signature
        self.metadata = header.metadata
        self.size_bytes = len(mapped)
        self._offsets = header.offsets
        self._mapped: Contents | None = mapped
        self._writable = writable

    @classmethod
    def open(cls, path: Path, *, copy_on_write: bool = False) -> Self:
        """The file at `path`.

        Args:
            path: a file that is not changed while it is open.
            copy_on_write: give out writable arrays; what is written to them never reaches the file.

        Raises:
            BadTensors: the file is no safetensors file, or its header contradicts it.
            OSError: the file cannot be read.
        """
        path = Path(path)
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            length = header_bytes(file.read(LENGTH_BYTES), size_bytes)
            header = parse_header(file.read(length), size_bytes)
            file.seek(0)
            return cls(path, header, _contents(file, size_bytes, copy_on_write), writable=copy_on_write)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        # Not mmap.close(): views that were given out would make it fail. The mapping ends with its last view.
        self._mapped = None

    def array(self, name: str) -> Array:
        """A view of the tensor, without a copy; BF16 as its bits (uint16).

        Raises:
            BadTensors: no such tensor.
        """
        info = self.signature.get(name)
        if info is None:
            raise BadTensors(f"{self.path.name} holds no tensor '{name}'")
        if self._mapped is None:
            raise ValueError(f"{self.path} is closed")
        flat = np.frombuffer(self._mapped, STORED_DTYPES[info.dtype], info.num_elements, self._offsets[name])
        return flat.reshape(info.shape)

    def block(self, name: str, start: int, stop: int, dtype: DTypeLike | None = None) -> Array:
        """Elements `start` to `stop` of the flattened tensor.

        Args:
            name: the tensor.
            start: first element.
            stop: the element after the last one; may lie behind the tensor's end.
            dtype: of the result; by default float32 for F16 and BF16, otherwise the tensor's own.
        """
        part = self.array(name).reshape(-1)[start:stop]
        info = self.signature[name]
        values = bfloat16_values(part) if info.dtype == "BF16" else part
        return values.astype(info.compute_dtype if dtype is None else dtype, copy=False)

    def forget(self, name: str, start: int, stop: int) -> None:
        """Give back the memory of elements `start` to `stop`; reading them again fetches them from the file.

        Mapped pages count as memory of the process that has read them. Whoever reads a large file once
        calls this on the way. Files opened with `copy_on_write` keep theirs.
        """
        if self._writable or not isinstance(self._mapped, mmap.mmap) or not hasattr(self._mapped, "madvise"):
            return
        info, first = self.signature[name], self._offsets[name]
        width = STORED_DTYPES[info.dtype].itemsize
        begin = max(0, first + start * width - MAPPED_AROUND) // mmap.PAGESIZE * mmap.PAGESIZE
        end = first + min(stop, info.num_elements) * width
        if end > begin:
            self._mapped.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def float_array(self, name: str) -> Array:
        """The tensor in its shape: float64 for F64, float32 for every other floating dtype.

        Raises:
            BadTensors: the tensor holds integers or booleans.
        """
        info = self.signature.get(name)
        if info is not None and not info.is_float:
            raise BadTensors(f"tensor '{name}' is {info.dtype}, not floating point")
        return self.values(name)

    def values(self, name: str) -> Array:
        """The tensor in its shape and a native dtype; float32 for F16 and BF16."""
        array = self.array(name)
        return self.block(name, 0, array.size).reshape(array.shape)


def _contents(file: BinaryIO, size_bytes: int, copy_on_write: bool) -> Contents:
    """All bytes of a file: mapped, or a copy where it is small.

    Raises:
        BadTensors: it has become shorter.
    """
    if size_bytes > READ_BYTES:
        access = mmap.ACCESS_COPY if copy_on_write else mmap.ACCESS_READ
        return mmap.mmap(file.fileno(), size_bytes, access=access)
    read = file.read(size_bytes)
    if len(read) != size_bytes:
        raise BadTensors(f"the file became shorter while it was read: {len(read)} of {size_bytes} bytes")
    return bytearray(read) if copy_on_write else read
