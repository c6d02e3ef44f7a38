"""Caffe, NetDef and MXNet through Catchment's own maps of operators."""

from __future__ import annotations

import importlib
from typing import Any

from catchment.errors import ConversionFailed
from catchment.formats.convert.contract import Job, RefusedModelError, UnsupportedModelError
from catchment.formats.convert.samples import Arrays
from catchment.formats.convert.tensor_spec import ModelSignature


class _Mapped:
    """A model whose map is a function of a package of ours."""

    takes_missing = False
    package = ""

    def __init__(self, job: Job) -> None:
        self.signature = ModelSignature(job.given)

    def convert(self, job: Job) -> None:
        """Write the model with the map that the target asks for."""
        inputs = {
            each.name: [-1 if length is None else length for length in each.shape]
            for each in job.given
            if each.shape is not None
        }
        map_module = self._module()
        name = f"convert_to_{job.target_format.lower()}"
        convert = getattr(map_module, name, None) or map_module.convert
        try:
            convert(job.source, job.target, inputs or None)
        except ConversionFailed as error:
            if "unsupported" in str(error).lower() or "not supported" in str(error).lower():
                raise UnsupportedModelError(str(error)) from error
            raise

    def _module(self) -> Any:
        try:
            return importlib.import_module(f"catchment.formats.convert.{self.package}")
        except ModuleNotFoundError as error:
            raise UnsupportedModelError(f"this installation has no map for {self.package} ({error})") from error

    def predict(self, sample: Arrays) -> Arrays:
        """These packages have no runtime of their own, with one exception."""
        raise RefusedModelError(f"{self.package} models are not run here")

    def check(self) -> dict[str, Any]:
        """Nothing is known of them here."""
        return {}


class Caffe(_Mapped):
    """A Caffe model."""

    package = "caffe"


class MXNet(_Mapped):
    """An MXNet model."""

    package = "mxnet"


class NetDef(_Mapped):
    """A Caffe2 model; our interpreter of its graph is its reference."""

    package = "netdef"
