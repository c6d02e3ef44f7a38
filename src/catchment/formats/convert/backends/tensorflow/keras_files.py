"""Keras files, .h5 and .keras. A file with a Lambda layer is refused before Keras sees it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from catchment.formats.convert.backends.tensorflow import exporting
from catchment.formats.convert.contract import Job, RefusedModelError
from catchment.formats.convert.samples import Arrays
from catchment.formats.convert.tensor_spec import ModelSignature, completed

MAX_CONFIG_BYTES = 64 * 2**20
_CODE = ("Lambda", "__lambda__", "__marshal__")


class KerasModel:
    """A whole model of Keras, built from its file without any code of the file's own."""

    takes_missing = False

    def __init__(self, job: Job) -> None:
        path = job.one_file("*.h5", "*.hdf5", "*.keras")
        _refuse_code(_config(path), path.name)
        try:
            self._model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise RefusedModelError(
                f"Keras does not build the model of {path.name}: {error}"[:1500]
            ) from error
        if not getattr(self._model, "inputs", None):
            raise RefusedModelError(
                f"{path.name}: the model was saved before it was built, so that it has no inputs"
            )
        own = [exporting.spec_of(each, each.name.partition(":")[0]) for each in self._model.inputs]
        # A Sequential model has no names of outputs; its last layer's is what a functional one would have.
        names = list(getattr(self._model, "output_names", [self._model.layers[-1].name]))
        self.signature = ModelSignature(
            completed(own, job.given, job.given_by),
            tuple(exporting.spec_of(e, n) for e, n in zip(self._model.outputs, names, strict=True)),
        )

    def _call(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """Call the model's graph of layers, which takes and gives its tensors in order."""
        listed = [tensors[each.name] for each in self.signature.inputs]
        made = self._model(listed if len(listed) > 1 else listed[0], training=False)
        flat = (
            made.values() if isinstance(made, dict) else made if isinstance(made, (list, tuple)) else [made]
        )
        return dict(zip((each.name for each in self.signature.outputs), flat, strict=True))

    def predict(self, sample: Arrays) -> Arrays:
        """Call the model as Keras does."""
        made = self._call({name: keras.ops.convert_to_tensor(value) for name, value in sample.items()})
        return {name: np.asarray(value) for name, value in made.items()}

    def convert(self, job: Job) -> None:
        """A SavedModel or ONNX."""
        if job.target_format == "SavedModel":
            exporting.write_saved_model(self._call, self.signature, job, self._model)
        else:
            exporting.write_onnx(self._call, self.signature, job)

    def check(self) -> dict[str, Any]:
        """How many layers it has."""
        return {"layers": len(self._model.layers)}


def _config(path: Path) -> Any:
    """The description of the layers, which is JSON in both kinds of file."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as zipped:
                entry = zipped.getinfo("config.json")
                if entry.file_size > MAX_CONFIG_BYTES:
                    raise RefusedModelError(f"{path.name}: config.json is of {entry.file_size} bytes")
                return json.loads(zipped.read(entry))
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
            if text is None:
                raise RefusedModelError(
                    f"{path.name} holds weights only; save the whole model with model.save"
                )
            return json.loads(text)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RefusedModelError(f"{path.name} is no model file of Keras: {error}") from error


def _refuse_code(config: Any, name: str) -> None:
    for value in _values(config):
        if value in _CODE:
            raise RefusedModelError(
                f"{name} has a Lambda layer, which is Python code inside of the file and is not executed; "
                "write the layer with layers and keras.ops"
            )


def _values(config: Any) -> Iterator[str]:
    """All names of classes in a description, however deep."""
    todo = [config]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            if isinstance(value.get("class_name"), str):
                yield value["class_name"]
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)
