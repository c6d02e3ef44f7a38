"""ONNX models: checked by path, run by onnxruntime, slimmed, raised to a newer opset, or quantised."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from catchment.errors import InvalidField
from catchment.formats.convert import onnx_repair
from catchment.formats.convert.contract import Job, RefusedModelError, UnsupportedModelError
from catchment.formats.convert.samples import Arrays
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec, completed

RESULT_NAME = "model.onnx"
NEWEST_OPSET = 25
_TYPES = {
    "float": "float32",
    "double": "float64",
    **{each: each for each in ("float16", "bool", "string")},
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class OnnxModel:
    """An ONNX file and a session that runs it."""

    takes_missing = False

    def __init__(self, job: Job) -> None:
        self.path = job.one_file("*.onnx")
        self._refuse_escapes()
        self._options = job.options
        try:
            self._session = session(self.path)
        except Exception as error:
            raise RefusedModelError(f"onnxruntime does not load {self.path.name}: {error}") from error
        own = _specs(self._session.get_inputs())
        self.signature = ModelSignature(
            completed(own, job.given, job.given_by), _specs(self._session.get_outputs())
        )

    def _refuse_escapes(self) -> None:
        """Weights in other files are read from the model's folder alone."""
        try:
            shallow = onnx.load(self.path, load_external_data=False)
        except DecodeError as error:
            raise RefusedModelError(f"{self.path.name} is damaged or no ONNX file: {error}") from error
        tensors = list(shallow.graph.initializer)
        tensors += [a.t for node in shallow.graph.node for a in node.attribute if a.HasField("t")]
        for tensor in tensors:
            for entry in tensor.external_data:
                location = Path(entry.value)
                if entry.key == "location" and (location.is_absolute() or ".." in location.parts):
                    raise RefusedModelError(
                        f"tensor {tensor.name!r} lies outside of the model: {entry.value!r}"
                    )
        self._external = any(tensor.external_data for tensor in tensors)

    def predict(self, sample: Arrays) -> Arrays:
        """Run the session; inputs that the sample does not have make it fail."""
        names = [each.name for each in self.signature.outputs]
        made = self._session.run(names, sample)
        return {name: np.asarray(value) for name, value in zip(names, made, strict=True)}

    def check(self) -> dict[str, Any]:
        """The full check, by path as large models need it; then what the gate wants to know of the file.

        Raises:
            RefusedModelError: the checker finds a fault.
        """
        try:
            onnx.checker.check_model(str(self.path), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
            raise RefusedModelError(f"the ONNX checker: {error}") from error
        shallow = onnx.load(self.path, load_external_data=False)
        domains = [entry.domain or "ai.onnx" for entry in shallow.opset_import]
        if len(set(domains)) != len(domains):
            raise RefusedModelError(f"the ONNX file names an opset twice: {', '.join(domains)}")
        versions = {entry.domain or "ai.onnx": entry.version for entry in shallow.opset_import}
        return {"opsets": versions, "ir": shallow.ir_version, "nodes": len(shallow.graph.node)}

    def convert(self, job: Job) -> None:
        """Do the operation that the options name."""
        operation = job.options.get("operation", "slim")
        target = job.target / RESULT_NAME
        if operation == "int8":
            _quantise(self.path, target)
        else:
            model = onnx.load(self.path)
            changed = _slimmed(model) if operation == "slim" else _raised(model, job.options.get("opset"))
            onnx_repair.merge_opsets(changed)
            save(changed, target)


def session(path: Path) -> onnxruntime.InferenceSession:
    """A session on the processor that adds in one order and keeps what the file says of precision."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def save(model: Any, target: Path) -> None:
    """Write a model; one that protobuf cannot hold gets its weights in a file beside it."""
    large = model.ByteSize() >= 2**31 - 2**20
    if large:
        onnx.save(model, target, save_as_external_data=True, location=f"{target.name}.data")
    else:
        onnx.save(model, target)


def _specs(ends: Any) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(each.name, _dtype(each), _shape(each.shape)) for each in ends)


def _dtype(end: Any) -> str:
    kind = end.type.removeprefix("tensor(").removesuffix(")")
    if kind not in _TYPES:
        raise RefusedModelError(f"{end.name} is a {end.type}, only tensors of plain types are converted")
    return _TYPES[kind]


def _shape(shape: Any) -> tuple[int | None, ...] | None:
    if shape is None:
        return None
    return tuple(length if isinstance(length, int) and length >= 0 else None for length in shape)


def _slimmed(model: Any) -> Any:
    import onnxslim

    return onnxslim.slim(model)


def _raised(model: Any, wanted: Any) -> Any:
    now = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not now < wanted <= NEWEST_OPSET:
        raise InvalidField(
            "opset", f"must be a whole number above {now}, the model's own, up to {NEWEST_OPSET}"
        )
    try:
        return onnx.version_converter.convert_version(model, wanted)
    except RuntimeError as error:
        raise UnsupportedModelError(f"opset {now} cannot be raised to {wanted}: {error}") from error


def _quantise(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # By path it would write beside the source, which is read-only.
    quantize_dynamic(onnx.load(source), target, weight_type=QuantType.QInt8)
