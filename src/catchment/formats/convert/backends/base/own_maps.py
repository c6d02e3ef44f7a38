"""Caffe, NetDef and MXNet through Catchment's own maps of operators, and our interpreters of their graphs."""

from __future__ import annotations

import importlib
from typing import Any

from catchment.errors import ConversionFailed
from catchment.formats.convert.contract import Job, RefusedModelError, UnsupportedModelError
from catchment.formats.convert.samples import Arrays
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec, completed

_PACKAGE = "catchment.formats.convert"
_UNKNOWN_OPERATOR = "no conversion is known for"
"""So begin the maps' refusals of operators that they do not have."""


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
        except ConversionFailed as error:
            if _UNKNOWN_OPERATOR in str(error):
                raise UnsupportedModelError(str(error)) from error
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
    """A model with an interpreter; it reads the graph's own inputs and outputs."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._interpreter = self._module("interpreter")
        self._net = self._module("model").read_net(job.source)
        inputs = self._net.inputs
        own = [
            TensorSpec(
                name, "float32", tuple(inputs[name]) if isinstance(inputs, dict) and inputs[name] else None
            )
            for name in inputs
        ]
        given = {each.name: each for each in job.given}
        # Given shapes stand above the file's, which holds the batch that it was trained with.
        taken = [TensorSpec(e.name, e.dtype, None) if e.name in given else e for e in own]
        self.signature = ModelSignature(
            completed(taken, job.given, job.given_by),
            tuple(TensorSpec(name, "float32", None) for name in self._net.outputs),
        )

    def predict(self, sample: Arrays) -> Arrays:
        """Run the graph operator by operator."""
        return dict(self._interpreter.run(self._net, sample))


class Caffe(_Interpreted):
    """A Caffe model."""

    package = "caffe"


class NetDef(_Interpreted):
    """A Caffe2 model; our interpreter of its graph is its reference."""

    package = "netdef"
