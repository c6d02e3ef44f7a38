"""Tensor files (safetensors): the one format of weights on the wire and in the store."""

from __future__ import annotations

import hashlib
from pathlib import Path

from catchment.models.reading import TensorFile
from catchment.models.signature import Array, Signature, TensorInfo, update_signature
from catchment.models.updates import check_finite, check_update
from catchment.models.writing import TensorWriter, write_tensors

__all__ = [
    "Signature",
    "TensorFile",
    "TensorInfo",
    "TensorWriter",
    "check_finite",
    "check_update",
    "file_digest",
    "read_tensors",
    "update_signature",
    "write_tensors",
]


def read_tensors(path: Path) -> dict[str, Array]:
    """All tensors as arrays of their own; BF16 as float32.

    Raises:
        BadTensors: the file is no tensor file.
    """
    with TensorFile.open(path) as file:
        return {
            name: file.float_array(name) if info.dtype == "BF16" else file.array(name).copy()
            for name, info in file.signature.items()
        }


def file_digest(path: Path) -> str:
    """`sha256:` and the SHA-256 of the file's bytes in hex."""
    with Path(path).open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
