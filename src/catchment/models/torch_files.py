"""PyTorch state dicts (`torch.save`) read without PyTorch and without unpickling freely."""

from __future__ import annotations

import math
import mmap
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np

from catchment.errors import BadTensors, UnsafeFile
from catchment.models.header import MAX_DIMENSIONS
from catchment.models.signature import STORED_DTYPES, Array, Signature, TensorInfo
from catchment.models.torch_pickle import TensorRef, load_structure
from catchment.models.writing import TensorWriter

MAX_PICKLE_BYTES = 64 * 2**20
MAX_ENTRIES = 1_000_000
MAX_EXPANSION = 100
"""Shared storages and strides of 0 make tensors larger than their file; this often at most, plus a floor."""
EXPANSION_FLOOR_BYTES = 16 * 2**20

_NESTED = ("state_dict", "model_state_dict")
_LOCAL_HEADER_BYTES = 30
_RESAVE = "load it with the PyTorch that wrote it and save again: torch.save(model.state_dict(), path)"


def read_torch(source: Path, destination: Path) -> Signature:
    """Write the state dict in `source` to the tensor file `destination`; return its signature.

    The dict may be the value of `state_dict` or `model_state_dict` in a checkpoint.

    Raises:
        UnsafeFile: the file wants to execute something.
        BadTensors: it is no state dict of dense tensors.
    """
    with source.open("rb") as file:
        start = file.read(4)
        if start != b"PK\x03\x04":
            raise _legacy(start)
        try:
            archive = _Archive(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), zipfile.ZipFile(file))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
            raise BadTensors(f"no PyTorch file: the zip archive is damaged ({error})") from None
        tensors = _state_dict(load_structure(bytes(archive.pickle())))
        return _write(tensors, archive, destination)


def _legacy(start: bytes) -> BadTensors:
    if start[:1] == b"\x80":
        return UnsafeFile(
            f"a pickle or a PyTorch file of the format before 1.6, which is not read; {_RESAVE}"
        )
    return BadTensors(f"no PyTorch file that can be read (a zip archive is expected); {_RESAVE}")


class _Archive:
    """The entries of PyTorch's zip archive, as slices of the mapped file."""

    def __init__(self, mapped: mmap.mmap, archive: zipfile.ZipFile) -> None:
        self.size_bytes = len(mapped)
        self._bytes = memoryview(mapped)
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            raise BadTensors(f"the archive has {len(entries)} entries")
        # All entries lie in one folder, named after the file that was written.
        self._entries = {entry.filename.partition("/")[2]: entry for entry in entries}
        if "data.pkl" not in self._entries:
            raise BadTensors(f"no PyTorch file: the archive has no data.pkl; {_RESAVE}")
        if "constants.pkl" in self._entries:
            raise BadTensors(f"a TorchScript archive holds code; {_RESAVE}")
        self._order = self._byte_order()

    def pickle(self) -> memoryview:
        """The pickle that describes the tensors."""
        stream = self._entry("data.pkl")
        if len(stream) > MAX_PICKLE_BYTES:
            raise BadTensors(f"data.pkl has {len(stream)} bytes, at most {MAX_PICKLE_BYTES} are read")
        return stream

    def array(self, tensor: TensorRef) -> Array:
        """The tensor's view of its storage; not a copy."""
        dtype = STORED_DTYPES[tensor.dtype].newbyteorder(self._order)
        stream = self._entry(f"data/{tensor.storage.key}")
        storage = np.frombuffer(stream, dtype, len(stream) // dtype.itemsize)
        last = tensor.offset + sum(
            (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
        )
        if math.prod(tensor.shape) == 0:
            return np.zeros(tensor.shape, dtype)
        if last >= storage.size:
            raise BadTensors(f"a tensor reaches element {last} of a storage of {storage.size}")
        strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
        return np.lib.stride_tricks.as_strided(
            storage[tensor.offset :], tensor.shape, strides, writeable=False
        )

    def _byte_order(self) -> Literal["<", ">"]:
        if "byteorder" not in self._entries:
            return "<"
        word = bytes(self._entry("byteorder"))
        if word not in (b"little", b"big"):
            raise BadTensors(f"the archive's byte order is {word[:20]!r}")
        return "<" if word == b"little" else ">"

    def _entry(self, name: str) -> memoryview:
        info = self._entries.get(name)
        if info is None:
            raise BadTensors(f"the archive has no entry '{name}'")
        # PyTorch never compresses; what is not compressed cannot blow up.
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise BadTensors(f"the archive's entry '{name}' is compressed or encrypted; {_RESAVE}")
        begin = info.header_offset + _LOCAL_HEADER_BYTES
        header = bytes(self._bytes[info.header_offset : begin])
        if len(header) < _LOCAL_HEADER_BYTES or not header.startswith(b"PK\x03\x04"):
            raise BadTensors(f"no PyTorch file: the archive's entry '{name}' is damaged")
        begin += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        if begin + info.file_size > self.size_bytes:
            raise BadTensors(f"the archive's entry '{name}' reaches behind the file's end")
        return self._bytes[begin : begin + info.file_size]


def _state_dict(structure: Any) -> dict[str, TensorRef]:
    """The one dict of tensors in what was loaded."""
    if isinstance(structure, dict):
        for key in _NESTED:
            if isinstance(structure.get(key), dict):
                structure = structure[key]
                break
    if not isinstance(structure, dict):
        raise BadTensors("holds no state dict; save one with torch.save(model.state_dict(), path)")
    for name, value in structure.items():
        if not isinstance(name, str):
            raise BadTensors(f"the state dict has a key that is no text ({type(name).__name__})")
        if not isinstance(value, TensorRef):
            raise BadTensors(
                f"'{name}' is no tensor but {type(value).__name__}; a state dict, or a checkpoint with one "
                f"under {' or '.join(_NESTED)}, is expected"
            )
    return structure


def _write(tensors: dict[str, TensorRef], archive: _Archive, destination: Path) -> Signature:
    for name, tensor in tensors.items():
        if len(tensor.shape) > MAX_DIMENSIONS:
            raise BadTensors(f"tensor '{name}' has {len(tensor.shape)} dimensions")
    signature = {name: TensorInfo(tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    total = sum(info.size_bytes for info in signature.values())
    if total > MAX_EXPANSION * archive.size_bytes + EXPANSION_FLOOR_BYTES:
        raise BadTensors(f"{total} bytes of tensors in a file of {archive.size_bytes}")
    with TensorWriter.create(destination, signature) as writer:
        for name, tensor in tensors.items():
            writer.write(name, archive.array(tensor))
    return signature
