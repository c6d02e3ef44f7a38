"""State dicts and safetensors: tensors without a graph; their "prediction" is the tensors themselves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from catchment.errors import BadTensors
from catchment.formats.convert.contract import WORK, Job, RefusedModelError
from catchment.formats.convert.samples import Arrays
from catchment.formats.convert.tensor_spec import ModelSignature
from catchment.models.tensors import TensorFile
from catchment.models.torch_files import read_torch

RESULT_NAME = "model.safetensors"


class Safetensors:
    """A safetensors file."""

    takes_missing = False
    signature = ModelSignature(())

    def __init__(self, job: Job) -> None:
        self._path = job.one_file("*.safetensors")
        _opened(self._path)

    def convert(self, job: Job) -> None:
        """Nothing is made from safetensors."""
        raise RefusedModelError(f"Safetensors cannot become {job.target_format}")

    def predict(self, _: Arrays) -> Arrays:
        """All tensors, bfloat16 as its bits."""
        return _opened(self._path)

    def check(self) -> dict[str, Any]:
        """How many tensors there are."""
        return {"tensors": len(_opened(self._path))}


class StateDict(Safetensors):
    """A file of `torch.save`, read without PyTorch."""

    def __init__(self, job: Job) -> None:
        source = job.one_file("*.pth", "*.pt", "*.bin")
        self._path = job.folder / WORK / "read.safetensors"
        try:
            read_torch(source, self._path)
        except BadTensors as error:
            raise RefusedModelError(f"{source.name}: {error}") from error

    def convert(self, job: Job) -> None:
        """Safetensors: the file that was written when the state dict was read."""
        if job.target_format != "Safetensors":
            raise RefusedModelError(
                f"a state dict holds tensors and no graph, so that it cannot become {job.target_format}; "
                "save the model with torch.export.save"
            )
        shutil.copyfile(self._path, job.target / RESULT_NAME)


def _opened(path: Path) -> Arrays:
    with TensorFile.open(path) as file:
        return {name: file.array(name).copy() for name in file.signature}
