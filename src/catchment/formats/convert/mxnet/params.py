"""MXNet's .params files: named arrays, in every version of the format (mxnet, src/ndarray/ndarray.cc)."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.dimensions import checked_size
from catchment.formats.protobuf import Broken, decoded, mapped

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8", 7: "?"}
MOST_DIMS = 32


class _Reader:
    """Numbers and bytes one after the other; running over the end is an error."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> memoryview:
        left = len(self._data) - self._at
        if size > left:
            raise Broken(f"{size} bytes are announced at byte {self._at}, {left} are left")
        self._at += size
        return self._data[self._at - size : self._at]

    def numbers(self, form: str, count: int = 1) -> tuple[int, ...]:
        form = f"<{count}{form}"
        return struct.unpack(form, self.take(struct.calcsize(form)))


def read_params(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name, without the prefixes `arg:` and `aux:`; views of the file.

    Raises:
        ConversionFailed: the file is none of MXNet's, is cut off, or holds sparse arrays.
    """
    try:
        names, arrays = _listed(_Reader(mapped(path)))
    except Broken as problem:
        raise ConversionFailed(f"{path.name} is no params file of MXNet: {problem}") from None
    found = zip(names, arrays, strict=True)
    return {name.removeprefix("arg:").removeprefix("aux:"): array for name, array in found}


def _listed(reader: _Reader) -> tuple[list[str], list[np.ndarray]]:
    magic, _, count = reader.numbers("Q", 3)
    if magic != LIST_MAGIC:
        raise Broken(f"it begins with {magic:#x}, not {LIST_MAGIC:#x}")
    arrays = [_array(reader) for _ in range(count)]
    (named,) = reader.numbers("Q")
    if named != count:
        raise Broken(f"{count} arrays have {named} names")
    return [decoded(reader.take(reader.numbers("Q")[0])) for _ in range(count)], arrays


def _array(reader: _Reader) -> np.ndarray:
    (magic,) = reader.numbers("I")
    if magic in {V2, V3}:
        (storage,) = reader.numbers("i")
        if storage not in {-1, 0}:
            raise Broken("an array is sparse, only dense ones can be converted")
    if magic in {V1, V2, V3}:
        (rank,) = reader.numbers("i")
        shape = reader.numbers("q", _rank(rank)) if rank > 0 else ()
    else:  # the first version has no magic number: this is the rank already
        rank = magic
        shape = reader.numbers("I", _rank(rank))
    if rank < 0 or (rank == 0 and magic != V3):
        return np.zeros(0, np.float32)
    reader.numbers("i", 2)  # the device
    (flag,) = reader.numbers("i")
    if flag not in DTYPES:
        raise Broken(f"an array has the unknown type {flag}")
    dtype = np.dtype(DTYPES[flag])
    size = checked_size(shape, "an array of the params file", dtype.itemsize)
    return np.frombuffer(reader.take(size * dtype.itemsize), dtype).reshape(shape)


def _rank(rank: int) -> int:
    if rank > MOST_DIMS:
        raise Broken(f"an array claims {rank} dimensions")
    return rank
