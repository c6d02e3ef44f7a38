"""Initial weights: a model file of a framework becomes a tensor file, without executing anything in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from catchment.errors import BadTensors
from catchment.models.keras_files import read_keras_archive, read_keras_h5
from catchment.models.reading import TensorFile
from catchment.models.safetensors_files import copy_safetensors
from catchment.models.signature import Signature
from catchment.models.torch_files import read_torch
from catchment.models.updates import check_finite
from catchment.wire.messages import Runtime

_Reader = Callable[[Path, Path], Signature]

_READERS: dict[str, tuple[Runtime | None, _Reader]] = {
    ".safetensors": (None, copy_safetensors),
    ".pt": ("pytorch", read_torch),
    ".pth": ("pytorch", read_torch),
    ".keras": ("keras", read_keras_archive),
    ".h5": ("keras", read_keras_h5),
}

SUFFIXES = tuple(_READERS)
"""File name endings of the model files that can be read."""

ACCEPTED = (
    "a .safetensors file, a .pt or .pth state dict of PyTorch, or a .keras, .h5 or .weights.h5 file of Keras"
)


def import_weights(source: Path, destination: Path, runtime: Runtime) -> Signature:
    """Convert the initial model file `source` to the tensor file `destination`; return its signature.

    Tensors of PyTorch are named as in the state dict, those of Keras by their variables' paths.
    `destination` appears only when all of it is written and every value in it is finite.

    Raises:
        UnsafeFile: the file wants to execute code when it is loaded.
        BadTensors: the file is damaged, of another format, holds nothing or something that cannot be trained
            in a federation.
        OSError: a file cannot be read or written.
    """
    source, destination = Path(source), Path(destination)
    file_runtime, reader = _READERS.get(source.suffix.lower(), (None, None))
    if reader is None:
        raise BadTensors(f"{source.name} is no model file that is known; give {ACCEPTED}")
    if file_runtime not in (None, runtime):
        raise BadTensors(f"{source.name} is a file of {file_runtime}, the runtime is {runtime}")
    try:
        signature = reader(source, destination)
        _check_usable(destination)
    except BadTensors as error:
        destination.unlink(missing_ok=True)
        raise type(error)(f"{source.name}: {error}") from error
    return signature


def _check_usable(path: Path) -> None:
    with TensorFile.open(path) as file:
        if not file.signature:
            raise BadTensors("holds no tensors")
        check_finite(file)
