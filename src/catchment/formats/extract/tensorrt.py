"""TensorRT engines: what their first bytes tell. The rest is bound to the GPU and version that built it."""

from __future__ import annotations

from catchment.errors import ExtractionFailed
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import Extracted, shown

_TAG = b"ftrt"
"""trtexec checks for it, and reads the version at the same place (NVIDIA/TensorRT, sampleEngines.cpp)."""
_VERSION_AT = 24


def read(folder: ModelFolder) -> Extracted:
    """The TensorRT version of the one *.plan or *.engine file, where its head is of a known layout."""
    name = folder.one("*.plan", "*.engine")
    with folder.opened(name) as file:
        head = file.read(_VERSION_AT + 4)
    if not head:
        raise ExtractionFailed(f"{shown(name)} is empty")
    known = len(head) == _VERSION_AT + 4 and head[:4] == _TAG and head[4:8] == bytes(4)
    version = ".".join(str(number) for number in head[_VERSION_AT:]) if known else ""
    return Extracted(
        "TensorRT",
        "TensorRT",
        version,
        extras={"file": name, "tagged": head[:4] == _TAG},
        absent=(
            "inputs, outputs, layers and parameters: an engine is stored, it cannot be inspected without the "
            "GPU and the TensorRT version that built it",
            *(() if version else ("the TensorRT version: the file's head is of a layout that is not known",)),
        ),
    )
