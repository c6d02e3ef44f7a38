"""PyTorch state dicts: names, shapes and types of their tensors, from a pickle that is never run."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

from catchment.errors import ExtractionFailed
from catchment.formats.extract import torch_values, zips
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.pickles import Call, Machine
from catchment.formats.extract.result import Extracted, count, shown
from catchment.formats.extract.tensors import listed

_PATTERNS = ("*.pth", "*.pt", "*.bin", "*.ckpt")
_NESTED = ("state_dict", "model_state_dict", "model")
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read(folder: ModelFolder) -> Extracted:
    """The tensors of the one state dict, or of the one inside a checkpoint."""
    name = folder.one(*_PATTERNS)
    with folder.opened(name) as file:
        start = file.read(4)
    extras: dict[str, Any] = {}
    if start == b"PK\x03\x04":
        with zips.opened(folder, name) as archive:
            entries = archive.inside()
            if "constants.pkl" in entries:
                raise ExtractionFailed(
                    f"{shown(name)} is a TorchScript archive, no state dict: format TorchScript"
                )
            if "data.pkl" not in entries:
                raise ExtractionFailed(f"{shown(name)} is no PyTorch file: the archive has no data.pkl")
            content = archive.content(entries["data.pkl"], torch_values.MAX_PICKLE_BYTES)
            value = Machine(io.BytesIO(content), torch_values.check).run()
    elif start[:1] == b"\x80":
        with folder.opened(name) as file:
            value = _legacy(file)
        extras["serialization"] = "before PyTorch 1.6"
    else:
        raise ExtractionFailed(f"{shown(name)} is no PyTorch file: neither a zip archive nor a pickle")
    return _extracted(value, extras)


def _legacy(file: BinaryIO) -> Any:
    """The fourth of the pickles that stand one behind the other: magic number, version, machine, value."""
    if Machine(file, torch_values.check).run() != _LEGACY_MAGIC:
        raise ExtractionFailed("a pickle that PyTorch did not write, which is never loaded here")
    for _ in ("version", "machine"):
        Machine(file, torch_values.check).run()
    return Machine(file, torch_values.check).run()


def _extracted(value: Any, extras: dict[str, Any]) -> Extracted:
    state = dict(torch_values.members(value))
    inner = next((key for key in _NESTED if isinstance(state.get(key), (dict, Call))), None)
    tensors = torch_values.tensors(state if inner is None else state[inner])
    if not tensors:
        raise ExtractionFailed(
            "the file holds no tensors; save one with torch.save(model.state_dict(), path)"
        )
    if inner is not None:
        extras |= {
            "stateDict": inner,
            "otherEntries": sorted(str(key) for key in state if key != inner)[:100],
        }
    return Extracted(
        "StateDict",
        "PyTorch",
        parameters=count(shape for _, shape in tensors.values()),
        extras={**extras, **listed(tensors), "parametersAre": "all tensors, buffers included"},
        absent=(
            "inputs, outputs and layers: the file holds tensors and no graph",
            "the PyTorch version: a state dict does not tell",
        ),
    )
