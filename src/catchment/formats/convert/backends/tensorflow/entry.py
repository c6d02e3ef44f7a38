"""The tensorflow backend: Keras files, SavedModels and frozen graphs become SavedModels and ONNX."""

from __future__ import annotations

from catchment.formats.convert.backends.tensorflow import graphs, keras_files
from catchment.formats.convert.contract import Job, Model, RefusedModelError

PACKAGES = ("tensorflow-cpu", "keras", "tf2onnx", "onnx", "numpy")

_KINDS: dict[str, type[keras_files.KerasModel | graphs.SavedModel | graphs.GraphDef]] = {
    "H5": keras_files.KerasModel,
    "Keras": keras_files.KerasModel,
    "SavedModel": graphs.SavedModel,
    "GraphDef": graphs.GraphDef,
}


def open_model(job: Job) -> Model:
    """Open a model of any of the formats above."""
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    kind = _KINDS.get(job.source_format)
    if kind is None:
        raise RefusedModelError(f"the tensorflow backend does not open {job.source_format}")
    return kind(job)
