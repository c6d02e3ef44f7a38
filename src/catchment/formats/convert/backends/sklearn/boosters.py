"""XGBoost's and LightGBM's own model files."""

from __future__ import annotations

from typing import Any

import numpy as np

from catchment.formats.convert.backends.sklearn import tables
from catchment.formats.convert.contract import WORK, Job, RefusedModelError, UnsupportedModelError
from catchment.formats.convert.samples import Arrays
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec

_TREES_OPSET = 15
"""onnxmltools knows no newer one."""


class _Booster:
    """What both share: trees over features, of which some may be missing (NaN)."""

    takes_missing = True
    signature: ModelSignature
    classes: int
    """0: no classifier."""

    def _sign(self, job: Job, count: int, classes: int) -> None:
        self.classes = classes
        taken = tables.features(job, count)
        batch = taken.shape[0] if taken.shape else None
        given = (
            (
                TensorSpec(tables.LABEL, "int64", (batch,)),
                TensorSpec(tables.PROBABILITIES, "float32", (batch, classes)),
            )
            if classes
            else (TensorSpec(tables.VARIABLE, "float32", (batch, 1)),)
        )
        self.signature = ModelSignature((taken,), given)

    def _raw(self, values: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def predict(self, sample: Arrays) -> Arrays:
        """Labels and probabilities, or values."""
        made = self._raw(np.asarray(sample[self.signature.inputs[0].name]))
        if not self.classes:
            return {tables.VARIABLE: tables.column(made)}
        likely = made if made.ndim == 2 else np.stack([1 - made, made], axis=1)
        labels = likely.argmax(axis=1) if made.ndim == 2 else (made > 0.5).astype(np.int64)
        return dict(tables.classified(labels, likely))

    def _float_input(self) -> list[tuple[str, Any]]:
        from onnxmltools.convert.common.data_types import FloatTensorType

        taken = self.signature.inputs[0]
        if taken.dtype != "float32":
            raise UnsupportedModelError("onnxmltools converts trees over float32 only")
        return [(taken.name, FloatTensorType(list(taken.shape or ())))]

    def check(self) -> dict[str, Any]:
        """Nothing more than that it opens."""
        return {}


class XGBoost(_Booster):
    """A file of `Booster.save_model`."""

    def __init__(self, job: Job) -> None:
        import xgboost

        path = job.one_file("*.json", "*.ubj", "*.xgboost", "*.model", "*.bst")
        try:
            self._model = xgboost.Booster(model_file=_with_known_suffix(path, job))
        except xgboost.core.XGBoostError as error:
            raise RefusedModelError(f"{path.name} is no XGBoost model: {str(error)[:500]}") from error
        import json

        learner = json.loads(self._model.save_config())["learner"]
        objective = learner["objective"]["name"]
        classes = int(learner["learner_model_param"]["num_class"])
        self._model.feature_names = None  # onnxmltools knows features by number
        self._model.feature_types = None
        if objective == "multi:softmax":
            raise UnsupportedModelError("multi:softmax gives no probabilities; train with multi:softprob")
        binary = objective == "binary:logistic"
        self._sign(job, self._model.num_features(), 2 if binary else classes)

    def _raw(self, values: np.ndarray) -> np.ndarray:
        import xgboost

        return np.asarray(self._model.predict(xgboost.DMatrix(values)))

    def convert(self, job: Job) -> None:
        """onnxmltools; then the repaired names and dimensions."""
        from onnxmltools import convert_xgboost

        try:
            made = convert_xgboost(self._model, initial_types=self._float_input(), target_opset=_TREES_OPSET)
        except (NotImplementedError, KeyError) as error:
            raise UnsupportedModelError(f"onnxmltools: {error}") from error
        tables.finish(made, job, self.signature)


class LightGBM(_Booster):
    """A text file of `Booster.save_model`."""

    def __init__(self, job: Job) -> None:
        import lightgbm

        path = job.one_file("*.txt", "*.lgb", "*.model")
        try:
            self._model = lightgbm.Booster(model_file=str(path))
        except lightgbm.basic.LightGBMError as error:
            raise RefusedModelError(f"{path.name} is no LightGBM model: {str(error)[:500]}") from error
        told = self._model.dump_model(num_iteration=1)
        objective = str(told.get("objective", "")).split(" ")[0]
        classes = {"binary": 2, "multiclass": int(told["num_class"])}.get(objective, 0)
        self._sign(job, self._model.num_feature(), classes)

    def _raw(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(self._model.predict(values))

    def convert(self, job: Job) -> None:
        """onnxmltools; then the repaired names and dimensions."""
        from onnxmltools import convert_lightgbm

        try:
            made = convert_lightgbm(
                self._model, initial_types=self._float_input(), zipmap=False, target_opset=_TREES_OPSET
            )
        except (NotImplementedError, KeyError) as error:
            raise UnsupportedModelError(f"onnxmltools: {error}") from error
        tables.finish(made, job, self.signature)


def _with_known_suffix(path: Any, job: Job) -> str:
    """XGBoost reads JSON or UBJSON by the file's ending; the registry's ending says neither."""
    if path.suffix in (".json", ".ubj"):
        return str(path)
    with path.open("rb") as file:
        start = file.read(2)
    suffix = ".json" if start[:1] == b"{" and start[1:2] in b'" \n\r\t' else ".ubj"
    link = job.folder / WORK / f"model{suffix}"
    link.symlink_to(path)
    return str(link)
