"""Caffe, NetDef and MXNet through Catchment's own maps of operators, and our interpreters of their graphs."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

from catchment.errors import ConversionFailed, InvalidField, UnsupportedOperators
from catchment.formats.convert.contract import Job, RefusedModelError, UnsupportedModelError
from catchment.formats.convert.samples import Arrays
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec, completed

_PACKAGE = "catchment.formats.convert"
_NO_SHAPE = "holds no shape"
"""What the maps say where shapes lack."""


class _Mapped:
    """A model whose maps are modules `to_<format>` of a package of ours."""

    takes_missing = False
    package = ""

    def __init__(self, job: Job) -> None:
        self._source = job.source
        self.signature = ModelSignature(job.given)

    def convert(self, job: Job) -> None:
        """Write the model with the map that the target asks for."""
        inputs = {
            each.name: tuple(-1 if length is None else length for length in each.shape)
            for each in job.given
            if each.shape is not None
        }
        module = self._module(f"to_{job.target_format.lower()}")
        try:
            module.convert(job.source, job.target, inputs or None)
        except UnsupportedOperators as error:
            raise UnsupportedModelError(str(error)) from error
        except ConversionFailed as error:
            if _NO_SHAPE in str(error):
                raise InvalidField(job.given_by, str(error)) from error
            raise

    def _module(self, name: str) -> Any:
        try:
            return importlib.import_module(f"{_PACKAGE}.{self.package}.{name}")
        except ModuleNotFoundError as error:
            raise UnsupportedModelError(f"this installation has no map {self.package}.{name}") from error

    def predict(self, sample: Arrays) -> Arrays:
        """Run our interpreter of the graph, where the package has one."""
        raise RefusedModelError(f"{self.package} models are not run here")

    def check(self) -> dict[str, Any]:
        """Nothing is known of them here."""
        return {}


class MXNet(_Mapped):
    """An MXNet model."""

    package = "mxnet"


class _Interpreted(_Mapped):
    """A model with an interpreter, which is what it is compared with where nothing else can run it."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._interpreter = self._module("interpreter")
        self._model = self._read(job)
        given = {each.name for each in job.given}
        # Given shapes stand above the file's, which holds the batch that it was trained with.
        own = [replace(each, shape=None) if each.name in given else each for each in self._own_inputs()]
        self.signature = ModelSignature(
            completed(own, job.given, job.given_by),
            tuple(TensorSpec(name, "float32", None) for name in self._model.outputs),
        )

    def _read(self, job: Job) -> Any:
        raise NotImplementedError

    def _own_inputs(self) -> list[TensorSpec]:
        raise NotImplementedError

    def convert(self, job: Job) -> None:
        """Refuse what has no shapes before the map does, with the field's name."""
        lacking = [each.name for each in self.signature.inputs if each.shape is None]
        if lacking:
            raise InvalidField(
                job.given_by,
                f"a {job.source_format} file holds no shapes; give name, dType and size of "
                + ", ".join(lacking),
            )
        super().convert(job)

    def predict(self, sample: Arrays) -> Arrays:
        """Run the graph operator by operator."""
        return dict(self._interpreter.run(self._model, sample))


class Caffe(_Interpreted):
    """A Caffe model."""

    package = "caffe"

    def _read(self, job: Job) -> Any:
        return self._module("model").read_net(job.source)

    def _own_inputs(self) -> list[TensorSpec]:
        shapes = self._model.inputs.items()
        return [TensorSpec(name, "float32", tuple(shape) if shape else None) for name, shape in shapes]


class NetDef(_Interpreted):
    """A Caffe2 model, whose files have no shapes."""

    package = "netdef"

    def _read(self, job: Job) -> Any:
        return self._module("model").read_model(job.source, tuple(each.name for each in job.given))

    def _own_inputs(self) -> list[TensorSpec]:
        indices = self._module("to_onnx").index_inputs(self._model)
        return [
            TensorSpec(name, "int64" if name in indices else "float32", None) for name in self._model.inputs
        ]
