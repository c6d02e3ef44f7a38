"""An initial model that is a safetensors file already: validated, then copied."""

from __future__ import annotations

from pathlib import Path

from catchment.models.reading import TensorFile
from catchment.models.signature import Signature
from catchment.models.updates import blocks
from catchment.models.writing import TensorWriter


def copy_safetensors(source: Path, destination: Path) -> Signature:
    """Write `source`'s tensors, without its metadata, to `destination`; return their signature.

    Raises:
        BadTensors: the file is no tensor file.
    """
    with TensorFile.open(source) as file, TensorWriter.create(destination, file.signature) as writer:
        for name, info in file.signature.items():
            flat = file.array(name).reshape(-1)
            for start, stop in blocks(info.num_elements):
                writer.write_block(name, flat[start:stop])
        return file.signature
