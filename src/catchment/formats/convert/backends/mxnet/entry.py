"""The mxnet backend: MXNet's own exporter, and MXNet itself to compare with."""

from __future__ import annotations

import json
from typing import Any

import mxnet as mx
import numpy as np

from catchment.errors import InvalidField
from catchment.formats.convert import onnx_repair
from catchment.formats.convert.contract import Job, Model, RefusedModelError, UnsupportedModelError
from catchment.formats.convert.samples import Arrays
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec, completed

PACKAGES = ("mxnet", "onnx", "numpy")
RESULT_NAME = "model.onnx"
_OPEN_BATCH = 2


class MXNet:
    """A symbol and its parameters."""

    takes_missing = False

    def __init__(self, job: Job) -> None:
        self._symbol_path, self._params_path = job.one_file("*symbol.json"), job.one_file("*.params")
        try:
            self._symbol = mx.sym.load(str(self._symbol_path))
            loaded = mx.nd.load(str(self._params_path))
        except (mx.base.MXNetError, ValueError) as error:
            raise RefusedModelError(f"MXNet does not load the model: {str(error)[:500]}") from error
        self._arguments = {
            name.partition(":")[2]: each for name, each in loaded.items() if name[:4] == "arg:"
        }
        self._states = {name.partition(":")[2]: each for name, each in loaded.items() if name[:4] == "aux:"}
        free = [
            name
            for name in self._symbol.list_arguments()
            if name not in self._arguments and not name.endswith("label")
        ]
        if not job.given:
            raise InvalidField(
                job.given_by,
                f"an MXNet model holds no shapes; give name, dType and size of {', '.join(free)}",
            )
        inputs = completed(
            [TensorSpec(name, _dtype(job, name), None) for name in free], job.given, job.given_by
        )
        self.signature = ModelSignature(inputs, self._outputs(inputs))

    def _outputs(self, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        missing = [each.name for each in inputs if each.shape is None]
        if missing:
            raise InvalidField(f"inputs.{missing[0]}", "has no size; MXNet needs the shape of every input")
        batch_is_free = all(each.shape and each.shape[0] is None for each in inputs)
        try:
            _, shapes, _ = self._symbol.infer_shape(**{each.name: _lengths(each) for each in inputs})
        except mx.base.MXNetError as error:
            raise RefusedModelError(f"the given shapes do not fit the model: {str(error)[:500]}") from error
        return tuple(
            TensorSpec(name, "float32", ((None if batch_is_free else shape[0]), *shape[1:]))
            for name, shape in zip(self._symbol.list_outputs(), shapes, strict=True)
        )

    def predict(self, sample: Arrays) -> Arrays:
        """Bind to the sample's shapes and go forward once."""
        shapes = {name: array.shape for name, array in sample.items()}
        bound = self._symbol.simple_bind(mx.cpu(), grad_req="null", **shapes)
        bound.copy_params_from(self._arguments, self._states, allow_extra_params=True)
        made = bound.forward(is_train=False, **{name: mx.nd.array(array) for name, array in sample.items()})
        return {name: each.asnumpy() for name, each in zip(self._symbol.list_outputs(), made, strict=True)}

    def convert(self, job: Job) -> None:
        """`mxnet.onnx.export_model`; then names and dimensions."""
        import onnx

        inputs, target = self.signature.inputs, job.target / RESULT_NAME
        try:
            mx.onnx.export_model(
                _exportable(self._symbol),
                {**self._arguments, **self._states},
                [_lengths(each) for each in inputs],
                [np.dtype(each.dtype).type for each in inputs],
                str(target),
                dynamic=any(None in (each.shape or ()) for each in inputs),
                dynamic_input_shapes=[_named(each) for each in inputs],
            )
        except (AttributeError, NotImplementedError) as error:
            raise UnsupportedModelError(f"mxnet.onnx: {error}"[:1000]) from error
        model = onnx.load(target)
        onnx_repair.merge_opsets(model)
        onnx_repair.name_ends(
            model, [each.name for each in inputs], [each.name for each in self.signature.outputs]
        )
        onnx_repair.forget_inner_shapes(model)
        onnx_repair.set_shapes(model, {e.name: e.shape for e in (*inputs, *self.signature.outputs)})
        onnx.save(model, str(target))

    def check(self) -> dict[str, Any]:
        """Nothing more than that it opens."""
        return {}


def open_model(job: Job) -> Model:
    """Open an MXNet model."""
    if job.source_format != "MXNetParams":
        raise RefusedModelError(f"the mxnet backend does not open {job.source_format}")
    return MXNet(job)


def _exportable(symbol: Any) -> Any:
    """The same symbol without what the exporter gets wrong: a default taken for False, and a label."""
    nodes = json.loads(symbol.tojson())
    for node in nodes["nodes"]:
        if node["op"] == "FullyConnected":
            node.setdefault("attrs", {}).setdefault("flatten", "True")
    symbol = mx.sym.load_json(json.dumps(nodes))
    heads = [nodes["nodes"][head[0]] for head in nodes["heads"]]
    if len(heads) != 1 or heads[0]["op"] != "SoftmaxOutput":
        return symbol
    if heads[0].get("attrs", {}).get("preserve_shape") in ("True", "1"):
        raise UnsupportedModelError("SoftmaxOutput with preserve_shape is not exported")
    return mx.sym.softmax(symbol.get_children()[0], axis=1, name=heads[0]["name"])


def _dtype(job: Job, name: str) -> str:
    return next((each.dtype for each in job.given if each.name == name), "float32")


def _lengths(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(_OPEN_BATCH if length is None else length for length in spec.shape or ())


def _named(spec: TensorSpec) -> list[int | str]:
    shape = spec.shape or ()
    return [f"{spec.name}_{index}" if length is None else length for index, length in enumerate(shape)]
