"""The base backend: our own maps, ONNX to ONNX, tensors to safetensors; onnxruntime runs what comes out."""

from __future__ import annotations

from collections.abc import Callable

from catchment.formats.convert.backends.base import onnx_model, own_maps, tensor_files
from catchment.formats.convert.contract import Job, Model, RefusedModelError

PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxslim", "safetensors")

_KINDS: dict[str, Callable[[Job], Model]] = {
    "ONNX": onnx_model.OnnxModel,
    "StateDict": tensor_files.StateDict,
    "Safetensors": tensor_files.Safetensors,
    "CaffeModel": own_maps.Caffe,
    "NetDef": own_maps.NetDef,
    "MXNetParams": own_maps.MXNet,
}


def open_model(job: Job) -> Model:
    """Open a model of any of the formats above."""
    kind = _KINDS.get(job.source_format)
    if kind is None:
        raise RefusedModelError(f"the base backend does not open {job.source_format}")
    return kind(job)
