"""A model in onnxruntime: its signature in the protocol's terms, and its inferences."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime import RunOptions
from onnxruntime.capi import onnxruntime_pybind11_state as state

from catchment.errors import DeadlinePassed, InferenceFailed, ModelUnusable
from catchment.model_server.datatypes import BY_ONNX, Array
from catchment.model_server.tensors import Tensor, TensorSpec

RUNTIME_ERRORS = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.EngineError,
    state.EPFail,
    state.ModelLoaded,
    state.ModelRequiresCompilation,
    state.NoModel,
    state.NoSuchFile,
    state.NotFound,
    state.NotImplemented,
    state.RuntimeException,
    RuntimeError,
    ValueError,
    MemoryError,
)
"""What onnxruntime raises; its own types have no common base."""
BFLOAT16 = 16
"""Its number among ONNX's types; numpy has no such type, so it goes in and out as uint16."""


def find_model_file(folder: Path) -> Path:
    """The one `*.onnx` in a model's folder, or in its `model/`, as artifacts of models have it.

    Raises:
        ModelUnusable: none, or several.
    """
    if not folder.is_dir():
        raise ModelUnusable(f"{folder} is no folder")
    for place in (folder, folder / "model"):
        found = sorted(place.glob("*.onnx"))
        if len(found) > 1:
            raise ModelUnusable(f"{place} has several models: {', '.join(each.name for each in found)}")
        if found:
            return found[0]
    raise ModelUnusable(f"{folder} has no file *.onnx, nor has its folder model/")


class OnnxModel:
    """One loaded model; used by several threads at a time.

    Args:
        file: the model; external data must lie in its folder.
        threads: that one inference uses.

    Raises:
        ModelUnusable: onnxruntime refuses it, or it takes or gives what the protocol has no tensor for.
    """

    platform = "onnxruntime_onnx"

    def __init__(self, file: Path, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # What goes wrong is raised and told; lines of its own would not be JSON.
        options.log_severity_level = 4
        # Threads that wait must not eat the processors of other servers here.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except RUNTIME_ERRORS as error:
            raise ModelUnusable(f"onnxruntime cannot load {file.name}: {_sentence(error)}") from error
        self.inputs = [_spec(each, "input") for each in self._session.get_inputs()]
        self.outputs = [_spec(each, "output") for each in self._session.get_outputs()]
        self._datatypes = {each.name: each.datatype for each in self.outputs}
        used = {each.datatype.name for each in (*self.inputs, *self.outputs)}
        self._by_value = "BF16" in used

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str], options: RunOptions) -> list[Tensor]:
        """The outputs, in the order of their names.

        Args:
            inputs: every input, already checked against `self.inputs`.
            outputs: names of those wanted.
            options: whose `terminate`, set by another thread, ends the inference.

        Raises:
            DeadlinePassed: it was ended.
            InferenceFailed: the model failed; the message is onnxruntime's.
        """
        try:
            if self._by_value:
                arrays = self._run_values(inputs, outputs, options)
            else:
                feeds = {name: tensor.array for name, tensor in inputs.items()}
                arrays = self._session.run(outputs, feeds, options)
        except RUNTIME_ERRORS as error:
            if options.terminate:
                raise DeadlinePassed("the inference did not end in time, and was ended") from error
            raise InferenceFailed(f"the model failed: {_sentence(error)}") from error
        return [
            Tensor(name, self._datatypes[name], np.ascontiguousarray(array) if array.ndim else array)
            for name, array in zip(outputs, arrays, strict=True)
        ]

    def _run_values(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str], options: RunOptions
    ) -> list[Array]:
        make = onnxruntime.OrtValue
        feeds = {
            name: make.ortvalue_from_numpy_with_onnx_type(np.array(tensor.array), BFLOAT16)
            if tensor.datatype.name == "BF16"
            else make.ortvalue_from_numpy(tensor.array)
            for name, tensor in inputs.items()
        }
        values = self._session.run_with_ort_values(outputs, feeds, options)
        return [_array_of(value) for value in values]

    def smoke(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Run once on zeros, dynamic dimensions being 1 unless `shapes` says otherwise.

        Raises:
            ModelUnusable: it failed.
        """
        inputs = {}
        for spec in self.inputs:
            shape = tuple(shapes.get(spec.name, [abs(each) for each in spec.sizes]))
            is_text = spec.datatype.kind == "bytes"
            array = np.full(shape, "", object) if is_text else np.zeros(shape, spec.datatype.carrier)
            inputs[spec.name] = Tensor(spec.name, spec.datatype, array)
        try:
            self.run(inputs, [each.name for each in self.outputs], RunOptions())
        except InferenceFailed as error:
            raise ModelUnusable(f"the smoke inference on zeros failed, {error}") from error


def _spec(described: Any, kind: str) -> TensorSpec:
    datatype = BY_ONNX.get(described.type)
    if datatype is None:
        problem = f"{kind} {described.name!r} is a {described.type}, which the protocol has no tensor for"
        raise ModelUnusable(problem)
    return TensorSpec(described.name, datatype, tuple(described.shape))


def _array_of(value: Any) -> Array:
    """A copy of an OrtValue in memory of the processor, BF16 as its bits."""
    if value.data_type() != "tensor(bfloat16)":
        return np.asarray(value.numpy())
    shape = value.shape()
    raw = ctypes.string_at(value.data_ptr(), 2 * math.prod(shape))
    return np.frombuffer(raw, "<u2").reshape(shape)


def _sentence(error: BaseException) -> str:
    """onnxruntime's message on one line, without its prefix."""
    return " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")[:1000]
