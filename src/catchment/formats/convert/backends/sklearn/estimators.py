"""Estimators and pipelines of scikit-learn, from skops files or, where that is said, from joblib's."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor

from catchment.formats.convert.backends.sklearn import known_points, steady, tables
from catchment.formats.convert.contract import Job, RefusedModelError, UnsupportedModelError
from catchment.formats.convert.samples import KNOWN_ROWS, Arrays, Known
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec

TRUSTED = ("sklearn.tree._tree.Tree",)
"""Types of skops files that are opened beside those that skops itself trusts. A crafted tree can crash this
process, which is confined, and nothing else."""
ALLOW_PICKLE = "allow_pickle"


class Estimator:
    """A fitted estimator."""

    def __init__(self, job: Job) -> None:
        self._model = _load(job)
        count = getattr(self._model, "n_features_in_", None)
        if not isinstance(count, int):
            raise RefusedModelError(f"{type(self._model).__name__} is not fitted: it has no n_features_in_")
        self.takes_missing = False
        self._is_classifier = is_classifier(self._model)
        taken = tables.features(job, count)
        self.signature = ModelSignature((taken,), self._outputs(taken, count))

    def _outputs(self, taken: TensorSpec, count: int) -> tuple[TensorSpec, ...]:
        batch = taken.shape[0] if taken.shape else None
        sample = np.zeros((1, count), np.float32)
        made = self._made(sample)
        return tuple(
            TensorSpec(
                name,
                "string" if array.dtype.kind == "U" else str(array.dtype),
                (batch, *array.shape[1:]),
            )
            for name, array in made.items()
        )

    def _made(self, values: np.ndarray) -> Arrays:
        model = self._model
        if self._is_classifier:
            if not hasattr(model, "predict_proba"):
                raise UnsupportedModelError(
                    f"{type(model).__name__} gives no probabilities; wrap it to give some"
                )
            labels = np.asarray(model.predict(values))
            if labels.ndim != 1:
                raise UnsupportedModelError("classifiers of several labels at a time are not converted")
            return dict(tables.classified(labels, model.predict_proba(values)))
        if is_regressor(model):
            return {tables.VARIABLE: tables.column(model.predict(values))}
        if hasattr(model, "transform"):
            made = model.transform(values)
            return {tables.VARIABLE: tables.column(made.toarray() if hasattr(made, "toarray") else made)}
        raise UnsupportedModelError(
            f"{type(model).__name__} neither classifies, nor predicts, nor transforms"
        )

    def predict(self, sample: Arrays) -> Arrays:
        """Labels and probabilities, or the predicted or transformed values."""
        return self._made(sample[self.signature.inputs[0].name])

    def known(self, generator: np.random.Generator) -> Known:
        """Rows among what the estimator has learned, at which its answers do not hang on a rounding."""
        found = known_points.Surroundings(generator)
        candidates = found.rows(self._model, 2 * KNOWN_ROWS)
        with np.errstate(over="ignore"):
            rows = candidates.astype(np.float32)  # what trees compare, and what the result may be given
        rows = rows[np.isfinite(rows).all(axis=1)]
        kept, scale = steady.steady(rows, self._made, generator)
        if len(candidates) and not len(kept):
            found.notes.append(steady.NONE_LEFT)
        return Known(kept, scale, tuple(found.notes))

    def convert(self, job: Job) -> None:
        """skl2onnx, with plain arrays of probabilities."""
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
        from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

        taken = self.signature.inputs[0]
        tensor = DoubleTensorType if taken.dtype == "float64" else FloatTensorType
        try:
            made = to_onnx(
                self._model,
                initial_types=[(taken.name, tensor(list(taken.shape or ())))],
                options={"zipmap": False} if self._is_classifier else None,
                target_opset={"": tables.OPSET, "ai.onnx.ml": 3},
            )
        except (MissingConverter, MissingShapeCalculator) as error:
            raise UnsupportedModelError(str(error)[:1000]) from error
        tables.finish(made, job, self.signature)

    def check(self) -> dict[str, Any]:
        """What it is."""
        return {"estimator": type(self._model).__name__}


def _load(job: Job) -> Any:
    path = job.one_file("*.skops", "*.joblib")
    if path.suffix == ".joblib":
        return _unpickled(path, job)
    from skops.io import get_untrusted_types, load
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        strange = sorted(set(get_untrusted_types(file=path)) - set(TRUSTED))
        if strange:
            raise RefusedModelError(
                f"{path.name} holds types that are not trusted: {', '.join(strange[:10])}"
            )
        return load(path, trusted=list(TRUSTED))
    except UntrustedTypesFoundException as error:
        raise RefusedModelError(f"{path.name}: {error}") from error


def _unpickled(path: Any, job: Job) -> Any:
    """A joblib file is a pickle: whoever wrote it may do here what this process may, which is little."""
    if job.options.get(ALLOW_PICKLE) is not True:
        raise RefusedModelError(
            f"{path.name} is a pickle, which executes code when it is opened; save the model with "
            f"skops.io.dump, or say {ALLOW_PICKLE}: true in the conversion if you trust its author"
        )
    import joblib

    return joblib.load(path)
