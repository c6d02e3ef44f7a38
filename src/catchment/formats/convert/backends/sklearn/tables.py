"""What all models of tables share: one input of features, and outputs named as their converters do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from catchment.errors import InvalidField
from catchment.formats.convert import onnx_repair
from catchment.formats.convert.contract import Job, RefusedModelError
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec

LABEL, PROBABILITIES, VARIABLE = "label", "probabilities", "variable"
RESULT_NAME = "model.onnx"
OPSET = 17


def features(job: Job, count: int) -> TensorSpec:
    """The model's only input: float32, a free batch, and as many columns as the model was fitted on.

    Raises:
        InvalidField: what was given is something else.
    """
    if not job.given:
        return TensorSpec("input", "float32", (None, count))
    if len(job.given) != 1:
        raise InvalidField(
            job.given_by, f"names {len(job.given)} inputs; this model has one, of {count} features"
        )
    given = job.given[0]
    if given.dtype not in ("float32", "float64") or (
        given.shape and given.shape[1:] not in ((count,), (None,))
    ):
        raise InvalidField(job.given_by, f"says {given}; this model takes float32 [?, {count}]")
    batch = given.shape[0] if given.shape else None
    return TensorSpec(given.name, given.dtype, (batch, count))


def finish(model: Any, job: Job, signature: ModelSignature) -> None:
    """Repair the converter's names and dimensions, and write the file."""
    import onnx

    there = [each.name for each in model.graph.output]
    wanted = [each.name for each in signature.outputs]
    if len(there) != len(wanted):
        raise RefusedModelError(f"the converter made the outputs {there}, expected were {wanted}")
    onnx_repair.merge_opsets(model)
    onnx_repair.name_ends(model, [each.name for each in signature.inputs], wanted)
    onnx_repair.set_shapes(model, {e.name: e.shape for e in (*signature.inputs, *signature.outputs)})
    onnx.save(model, job.target / RESULT_NAME)


def classified(labels: np.ndarray, probabilities: np.ndarray) -> Mapping[str, np.ndarray]:
    """A classifier's two outputs, in the dtypes that converters give them."""
    text = labels.dtype.kind in "UO"
    return {
        LABEL: labels.astype(np.str_ if text else np.int64).reshape(-1),
        PROBABILITIES: probabilities.astype(np.float32),
    }


def column(values: Any) -> np.ndarray:
    """A regressor's output: float32 [batch, targets]."""
    array = np.asarray(values, np.float32)
    return array.reshape(len(array), -1)
