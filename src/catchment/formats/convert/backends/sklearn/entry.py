"""The sklearn backend: scikit-learn through skl2onnx, XGBoost and LightGBM through onnxmltools."""

from __future__ import annotations

from catchment.formats.convert.backends.sklearn import boosters, estimators
from catchment.formats.convert.contract import Job, Model, RefusedModelError

PACKAGES = ("scikit-learn", "skl2onnx", "onnxmltools", "xgboost-cpu", "lightgbm", "skops", "onnx", "numpy")

_KINDS: dict[str, type[estimators.Estimator | boosters.XGBoost | boosters.LightGBM]] = {
    "SKLearn": estimators.Estimator,
    "XGBoost": boosters.XGBoost,
    "LightGBM": boosters.LightGBM,
}


def open_model(job: Job) -> Model:
    """Open a model of any of the formats above."""
    kind = _KINDS.get(job.source_format)
    if kind is None:
        raise RefusedModelError(f"the sklearn backend does not open {job.source_format}")
    return kind(job)
