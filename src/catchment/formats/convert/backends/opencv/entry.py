"""The opencv backend: runs Caffe models, so that conversions can be compared with another's arithmetic."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from catchment.formats.convert.caffe.model import read_net
from catchment.formats.convert.contract import Job, Model, RefusedModelError
from catchment.formats.convert.samples import Arrays
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec, completed

PACKAGES = ("opencv-python-headless", "numpy")


class Caffe:
    """A Caffe model in OpenCV's network."""

    takes_missing = False

    def __init__(self, job: Job) -> None:
        net = read_net(job.source)
        prototxt, weights = job.one_file("*.prototxt"), job.one_file("*.caffemodel")
        try:
            self._net = cv2.dnn.readNetFromCaffe(str(prototxt), str(weights))
        except cv2.error as error:
            raise RefusedModelError(f"OpenCV does not read the Caffe model: {str(error)[:500]}") from error
        self._net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        given = {each.name for each in job.given}
        # Given shapes stand above the file's, which holds the batch that it was trained with.
        own = [
            TensorSpec(name, "float32", tuple(shape) if shape and name not in given else None)
            for name, shape in net.inputs.items()
        ]
        # OpenCV knows a result by the layer that makes it last.
        makers = {top: layer.name for layer in net.layers for top in layer.tops}
        self._layers = {top: makers[top] for top in net.outputs}
        self.signature = ModelSignature(
            completed(own, job.given, job.given_by),
            tuple(TensorSpec(top, "float32", None) for top in net.outputs),
        )

    def predict(self, sample: Arrays) -> Arrays:
        """Set the inputs and go forward once."""
        for name, array in sample.items():
            self._net.setInput(np.ascontiguousarray(array), name if len(sample) > 1 else "")
        made = self._net.forward(list(self._layers.values()))
        return {top: np.asarray(each) for top, each in zip(self._layers, made, strict=True)}

    def convert(self, job: Job) -> None:
        """Nothing is converted here."""
        raise RefusedModelError(f"the opencv backend does not make {job.target_format}")

    def check(self) -> dict[str, Any]:
        """Nothing more than that it opens."""
        return {}


def open_model(job: Job) -> Model:
    """Open a Caffe model."""
    if job.source_format != "CaffeModel":
        raise RefusedModelError(f"the opencv backend does not open {job.source_format}")
    return Caffe(job)
