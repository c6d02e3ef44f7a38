"""The torch backend: TorchScript and exported programs become ONNX; state dicts are read to compare with."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from catchment.errors import InvalidField
from catchment.formats.convert import onnx_repair
from catchment.formats.convert.contract import Job, Model, RefusedModelError, UnsupportedModelError
from catchment.formats.convert.samples import LENGTH, OTHER_LENGTH, Arrays
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec, completed

PACKAGES = ("torch", "onnx", "onnxscript", "numpy")
RESULT_NAME = "model.onnx"
Shape = tuple[int | None, ...]
SCRIPT_OPSET = 17
EXPORTED_OPSET = 20

warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is deprecated, and read all the same


class _TorchModel:
    """What both kinds share: they are called with tensors and give tensors."""

    takes_missing = False
    signature: ModelSignature
    _call: Any

    def predict(self, sample: Arrays) -> Arrays:
        """Call it, without gradients."""
        tensors = [torch.from_numpy(np.array(sample[each.name])) for each in self.signature.inputs]
        with torch.inference_mode():
            made = _flat(self._call(*tensors))
        names = [each.name for each in self.signature.outputs]
        return {name: tensor.numpy() for name, tensor in zip(names, made, strict=True)}

    def check(self) -> dict[str, Any]:
        """Nothing more than that it opens."""
        return {}


class TorchScript(_TorchModel):
    """An archive of `torch.jit.save`; its code runs as soon as it is loaded."""

    def __init__(self, job: Job) -> None:
        path = job.one_file("*.pt", "*.torchscript")
        if not job.given:
            raise InvalidField(
                job.given_by,
                "a TorchScript file holds neither shapes nor dtypes of its inputs; give each input's name, "
                "dType and size, or save the model with torch.export.save, whose file has them",
            )
        try:
            self._call = torch.jit.load(str(path), map_location="cpu").eval()
        except RuntimeError as error:
            raise RefusedModelError(f"{path.name} is no TorchScript archive: {error}"[:1000]) from error
        inputs = self._in_order(job)
        made = self._made(inputs, 2, LENGTH, job.given_by)
        names = job.outputs if len(job.outputs) == len(made) else _names(len(made))
        shapes = [tuple(tensor.shape) for tensor in made]
        if any(None in (each.shape or ()) for each in inputs):
            shapes = self._open_shapes(inputs, shapes, job.given_by)
        self.signature = ModelSignature(
            inputs,
            tuple(
                TensorSpec(name, str(tensor.dtype).removeprefix("torch."), shape)
                for name, tensor, shape in zip(names, made, shapes, strict=True)
            ),
        )

    def _made(
        self, inputs: Sequence[TensorSpec], batch: int, length: int, given_by: str
    ) -> list[torch.Tensor]:
        """What it makes of zeros of these lengths, where the inputs leave them open."""
        try:
            with torch.inference_mode():
                return _flat(self._call(*(_example(each, batch, length) for each in inputs)))
        except RuntimeError as error:
            *_, last = str(error).strip().splitlines() or [""]
            raise InvalidField(given_by, f"forward does not take what is given for them: {last}") from error

    def _open_shapes(self, inputs: Sequence[TensorSpec], seen: list[Shape], given_by: str) -> list[Shape]:
        """Lengths of outputs that change with those of the inputs are open; two calls tell which."""
        try:
            others = [tuple(each.shape) for each in self._made(inputs, 3, OTHER_LENGTH, given_by)]
        except InvalidField:  # it does not take every length; an open first one is the batch then
            free = all(each.shape and each.shape[0] is None for each in inputs)
            return [(None, *shape[1:]) if free and shape[:1] == (2,) else shape for shape in seen]
        return [
            tuple(a if a == b else None for a, b in zip(one, other, strict=True))
            if len(one) == len(other)
            else one
            for one, other in zip(seen, others, strict=True)
        ]

    def _in_order(self, job: Job) -> tuple[TensorSpec, ...]:
        """The given inputs, in the order of the arguments of `forward`."""
        arguments = [each.name for each in self._call.forward.schema.arguments if each.name != "self"]
        given = {each.name: each for each in job.given}
        if set(given) == set(arguments):
            return tuple(given[name] for name in arguments)
        if len(given) != len(arguments):
            raise InvalidField(
                job.given_by, f"names {len(given)} inputs, forward takes {', '.join(arguments)}"
            )
        if known := sorted(set(given) & set(arguments)):
            raise InvalidField(
                job.given_by,
                f"names {', '.join(known)} as forward does, and others not: it takes {', '.join(arguments)}",
            )
        return job.given

    def convert(self, job: Job) -> None:
        """The older exporter, which is the only one for TorchScript."""
        example = tuple(_example(each, 2, LENGTH) for each in self.signature.inputs)
        names = [each.name for each in self.signature.inputs]
        outputs = [each.name for each in self.signature.outputs]
        free = {
            each.name: _open_dimensions(each) for each in (*self.signature.inputs, *self.signature.outputs)
        }
        target = job.target / RESULT_NAME
        try:
            torch.onnx.export(
                self._call,
                example,
                str(target),
                dynamo=False,
                opset_version=int(job.options.get("opset", SCRIPT_OPSET)),
                input_names=names,
                output_names=outputs,
                dynamic_axes={name: axes for name, axes in free.items() if axes},
            )
        except torch.onnx.errors.UnsupportedOperatorError as error:
            raise UnsupportedModelError(str(error)) from error


class ExportedProgram(_TorchModel):
    """A file of `torch.export.save`; it has the shapes of its inputs, and no code of its own."""

    def __init__(self, job: Job) -> None:
        path = job.one_file("*.pt2")
        try:
            self._program = torch.export.load(str(path))
        except (RuntimeError, ValueError, KeyError, AssertionError) as error:
            raise RefusedModelError(f"{path.name} is no exported program: {error}"[:1000]) from error
        self._call = self._program.module()
        places = {node.name: node for node in self._program.graph.nodes}
        signed = self._program.graph_signature
        own = tuple(_spec(places[name]) for name in signed.user_inputs)
        self.signature = ModelSignature(
            completed(own, job.given, job.given_by),
            tuple(_spec(places[name]) for name in signed.user_outputs),
        )

    def convert(self, job: Job) -> None:
        """The exporter of torch.export's graphs; then names and dimensions as the program has them."""
        import onnx

        try:
            made = torch.onnx.export(
                self._program, dynamo=True, opset_version=int(job.options.get("opset", EXPORTED_OPSET))
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise UnsupportedModelError(str(error)[:1500]) from error
        target = job.target / RESULT_NAME
        made.save(str(target))
        model = onnx.load(target)
        signature = self.signature
        onnx_repair.name_ends(model, [e.name for e in signature.inputs], [e.name for e in signature.outputs])
        onnx_repair.set_shapes(model, {e.name: e.shape for e in (*signature.inputs, *signature.outputs)})
        onnx.save(model, target)


class StateDict:
    """Tensors of `torch.save`, as PyTorch itself reads them without executing anything."""

    takes_missing = False
    signature = ModelSignature(())

    def __init__(self, job: Job) -> None:
        path = job.one_file("*.pth", "*.pt", "*.bin")
        loaded = torch.load(str(path), map_location="cpu", weights_only=True)
        for name in ("state_dict", "model_state_dict"):
            loaded = loaded.get(name, loaded)
        self._tensors = {name: each for name, each in loaded.items() if isinstance(each, torch.Tensor)}

    def predict(self, _: Arrays) -> Arrays:
        """All tensors, bfloat16 as its bits."""
        return {name: _bits(tensor.detach().contiguous()) for name, tensor in self._tensors.items()}

    def convert(self, job: Job) -> None:
        """The base backend does that."""
        raise RefusedModelError(f"this backend does not make {job.target_format} of a state dict")

    def check(self) -> dict[str, Any]:
        """How many tensors there are."""
        return {"tensors": len(self._tensors)}


_KINDS: dict[str, type[TorchScript | ExportedProgram | StateDict]] = {
    "TorchScript": TorchScript,
    "ExportedProgram": ExportedProgram,
    "StateDict": StateDict,
}


def open_model(job: Job) -> Model:
    """Open a model of any of the formats above."""
    torch.set_num_threads(1)
    kind = _KINDS.get(job.source_format)
    if kind is None:
        raise RefusedModelError(f"the torch backend does not open {job.source_format}")
    return kind(job)


def _bits(tensor: Any) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.view(torch.int16).numpy().view(np.uint16))
    return np.asarray(tensor.numpy())


def _flat(made: Any) -> list[torch.Tensor]:
    if isinstance(made, torch.Tensor):
        return [made]
    if isinstance(made, dict):
        made = list(made.values())
    if isinstance(made, (tuple, list)):
        return [tensor for each in made for tensor in _flat(each)]
    raise UnsupportedModelError(f"the model gives a {type(made).__name__}, tensors are converted")


def _names(count: int) -> list[str]:
    return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]


def _spec(node: Any) -> TensorSpec:
    value = node.meta["val"]
    shape = tuple(length if isinstance(length, int) else None for length in value.shape)
    return TensorSpec(str(node.name), str(value.dtype).removeprefix("torch."), shape)


def _example(spec: TensorSpec, batch: int, length: int) -> torch.Tensor:
    if spec.shape is None:
        raise InvalidField(f"inputs.{spec.name}", "has no size, and the file has none")
    lengths = [batch, *[length] * len(spec.shape)]
    shape = [lengths[index] if n is None else n for index, n in enumerate(spec.shape)]
    return torch.zeros(shape, dtype=getattr(torch, spec.dtype))


def _open_dimensions(spec: TensorSpec) -> dict[int, str]:
    shape = spec.shape or ()
    return {
        index: onnx_repair.BATCH if index == 0 else f"{spec.name}_{index}"
        for index, length in enumerate(shape)
        if length is None
    }
