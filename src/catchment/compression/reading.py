"""Reading client updates, compressed or not, through one interface."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from numpy.typing import DTypeLike

from catchment.compression.codec import Codec, is_compressed
from catchment.compression.params import codec_of
from catchment.errors import BadTensors
from catchment.models.reading import TensorFile
from catchment.models.signature import Array, Signature
from catchment.models.updates import check_fits
from catchment.wire.messages import Algorithm


def opened(path: Path, compression: Algorithm | None, signature: Signature) -> TensorFile | CompressedFile:
    """The client update in a file, decoded block by block as it is read.

    Tensors that were compressed are checked here once, and hold finite values only; those that travel as
    they are have not been looked at (`models.updates.check_finite`).

    Args:
        path: what the site sent.
        compression: as the work's order named it; None for none.
        signature: of the update before it was compressed.

    Raises:
        TensorMismatch: the file holds other tensors than such an update has.
        BadTensors: it is no tensor file, or damaged: places out of range or twice, scales or values that
            are not finite.
    """
    file = TensorFile.open(path)
    codec = None if compression is None else codec_of(compression.name, compression.params)
    wire = signature if codec is None else codec.wire_signature(signature)
    check_fits(file.signature, wire)
    if codec is None:
        return file
    for name, info in signature.items():
        if is_compressed(name, info):
            codec.check(file, name, info)
    return CompressedFile(file, codec, signature)


class CompressedFile:
    """A compressed client update that reads like the TensorFile that it was made from.

    Attributes:
        path: the file.
        signature: of the update.
        metadata: the header's free text pairs.
        size_bytes: size of the compressed file.
    """

    def __init__(self, file: TensorFile, codec: Codec, signature: Signature) -> None:
        self.path = file.path
        self.signature: Signature = signature
        self.metadata = file.metadata
        self.size_bytes = file.size_bytes
        self._file = file
        self._codec = codec

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def block(self, name: str, start: int, stop: int, dtype: DTypeLike | None = None) -> Array:
        """Elements `start` to `stop` of the flattened tensor, as `TensorFile.block`."""
        info = self.signature.get(name)
        if info is None or not is_compressed(name, info):
            return self._file.block(name, start, stop, dtype)
        stop = min(stop, info.num_elements)
        values = self._codec.block(self._file, name, info, min(start, stop), stop)
        return values if dtype is None else values.astype(dtype, copy=False)

    def array(self, name: str) -> Array:
        """The tensor in its shape; an array of its own where it was compressed.

        Raises:
            BadTensors: no such tensor.
        """
        info = self.signature.get(name)
        if info is None:
            raise BadTensors(f"{self.path.name} holds no tensor '{name}'")
        if not is_compressed(name, info):
            return self._file.array(name)
        return self.block(name, 0, info.num_elements).reshape(info.shape)

    def float_array(self, name: str) -> Array:
        """The tensor in its shape: float64 for F64, float32 for every other floating dtype.

        Raises:
            BadTensors: no such tensor, or it holds integers or booleans.
        """
        info = self.signature.get(name)
        if info is not None and not info.is_float:
            raise BadTensors(f"tensor '{name}' is {info.dtype}, not floating point")
        return self.values(name)

    def values(self, name: str) -> Array:
        """The tensor in its shape and a native dtype."""
        info = self.signature.get(name)
        if info is not None and not is_compressed(name, info):
            return self._file.values(name)
        return self.array(name)
