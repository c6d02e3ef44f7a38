"""Rows where the answers of a fitted scikit-learn estimator change, found in what it has learned.

A tree that splits incomes at 50,000 says the same of every number near zero, and so does a kernel whose
support vectors lie far from there: only rows like those that a model was fitted on show what it does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.impute import KNNImputer, SimpleImputer

from catchment.formats.convert.backends.sklearn.splits import Rows, Tree

_POINTS = (
    "support_vectors_",
    "_fit_X",
    "X_train_",
    "cluster_centers_",
    "centroids_",
    "means_",
    "theta_",
)
"""Attributes [n, features] around which answers change: of kernels, neighbours, clusters, mixtures."""
_MOVED = (-3.0, 0.0)
"""Points are moved by 10^-3 of the way to another one, or up to all of it, in each column."""
_TIE = 1e-4
"""Distances that differ by a smaller share are rounded to the same, or the other way round."""
_ALL_DISPUTED = (
    "no row near what the model has learned was tried: at each of them neighbours are as near as others"
)


class _NoWayBackError(Exception):
    """A step of a pipeline cannot tell what it made these rows of."""


class Surroundings:
    """Finds the rows of one estimator.

    Args:
        generator: for all choices.

    Attributes:
        notes: why there are none in a place where there could be some, in sentences.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self.notes: list[str] = []
        self._generator = generator

    def rows(self, model: Any, count: int) -> Rows:
        """About `count` rows of the model's input; none where it has learned no places."""
        rows = self._filled(self._rows(model, int(model.n_features_in_), count))
        kept = rows[_undisputed(model, rows)]
        if len(rows) and not len(kept):
            self.notes.append(_ALL_DISPUTED)
        return kept

    def _rows(self, model: Any, features: int, count: int) -> Rows:
        if hasattr(model, "steps"):
            return self._of_pipeline([step for _, step in model.steps], features, count)
        if members := _members(model, features):
            return self._of_members(members, features, count)
        if tree := Tree.of(model):
            return tree.rows(features, count, self._generator)
        return self._of_places(model, features, count)

    def _of_places(self, model: Any, features: int, count: int) -> Rows:
        if (points := _points(model, features)) is not None:
            return self._around(points, count, _spread(model))
        if (span := _span(model)) is not None:
            low, high = (np.broadcast_to(each, features) for each in span)
            return self._generator.uniform(low, high, (count, features))
        return _none(features)

    def _of_pipeline(self, steps: Sequence[Any], features: int, count: int) -> Rows:
        """Those of the last step that has some, taken back through the steps before it."""
        used = [step for step in steps if step is not None and step != "passthrough"]
        for index in reversed(range(len(used))):
            taken = int(getattr(used[index], "n_features_in_", features))
            rows = self._filled(self._rows(used[index], taken, count))
            if not len(rows):
                continue
            try:
                for step in reversed(used[:index]):
                    rows = _taken_back(step, rows)
            except _NoWayBackError as error:
                learned = type(used[index]).__name__
                self.notes.append(f"no rows near what {learned} has learned were tried: {error}")
            else:
                return rows
        return _none(features)

    def _of_members(self, members: Sequence[tuple[Any, Any]], features: int, count: int) -> Rows:
        """Some of each, or of as many as there are to be rows."""
        chosen = self._generator.permutation(len(members))[:count]
        found = [_none(features)]
        for index in chosen:
            member, columns = members[index]
            own = self._rows(member, len(columns), -(-count // len(chosen)))
            rows = np.full((len(own), features), np.nan)
            rows[:, columns] = own
            found.append(rows)
        return self._generator.permutation(np.concatenate(found))

    def _around(self, points: Rows, count: int, spread: Rows | None) -> Rows:
        """Points moved by their own spread where they have one, and otherwise on the way to another point."""
        chosen = self._generator.integers(0, len(points), count)
        if spread is not None:
            return points[chosen] + spread[chosen] * self._generator.standard_normal((count, points.shape[1]))
        way = points[self._generator.permutation(chosen)] - points[chosen]
        return np.asarray(points[chosen] + way * 10 ** self._generator.uniform(*_MOVED, way.shape))

    def _filled(self, rows: Rows) -> Rows:
        """Where any value does, one of the column's others."""
        rows = rows.copy()
        for column in rows.T:
            lacking = np.isnan(column)
            known = column[~lacking]
            column[lacking] = (
                self._generator.choice(known, lacking.sum())
                if len(known)
                else self._generator.standard_normal(lacking.sum())
            )
        return rows


def _members(model: Any, features: int) -> list[tuple[Any, Any]]:
    """The estimators that a model is made of, each with the columns that it sees."""
    return [
        (each, columns)
        for each, columns in _parts(model, features)
        # Those of a chain see answers of others, too.
        if getattr(each, "n_features_in_", len(columns)) == len(columns)
    ]


def _parts(model: Any, features: int) -> list[tuple[Any, Any]]:
    every = np.arange(features)
    if hasattr(model, "transformers_"):
        parts = [(each, np.atleast_1d(every[columns])) for _, each, columns in model.transformers_]
        return [(each, columns) for each, columns in parts if len(columns) and not isinstance(each, str)]
    if hasattr(model, "_predictors"):  # histogram gradient boosting
        if getattr(model, "_preprocessor", None) is not None:  # its trees see columns in another order
            return []
        return [(each, every) for each in itertools.chain(*model._predictors)]
    if hasattr(model, "calibrated_classifiers_"):
        return [(each.estimator, every) for each in model.calibrated_classifiers_]
    for name in ("best_estimator_", "regressor_"):
        if hasattr(model, name):
            return [(getattr(model, name), every)]
    estimators = getattr(model, "estimators_", [])
    estimators = list(estimators.ravel() if isinstance(estimators, np.ndarray) else estimators)
    seen = getattr(model, "estimators_features_", None) or [every] * len(estimators)
    return list(zip(estimators, seen, strict=True))


def _points(model: Any, features: int) -> NDArray[np.float64] | None:
    """The points that a model has kept; None: it has none."""
    for name in _POINTS:
        points = getattr(model, name, None)
        if isinstance(points, np.ndarray) and points.ndim == 2 and points.shape[1] == features:
            known = points[np.isfinite(points).all(axis=1)]
            return known.astype(np.float64) if len(known) else None
    return None


def _spread(model: Any) -> NDArray[np.float64] | None:
    """How far the classes of naive Bayes spread around their centres; None: the model knows no such thing."""
    variances = getattr(model, "var_", None)
    return np.sqrt(variances) if isinstance(variances, np.ndarray) and hasattr(model, "theta_") else None


def _undisputed(model: Any, rows: Rows) -> NDArray[np.bool_]:
    """Where no two neighbours compete for the last place in any part of the model: either would be right."""
    if not len(rows):
        return np.ones(0, bool)
    if hasattr(model, "steps"):
        return _undisputed(model.steps[-1][1], model[:-1].transform(rows) if len(model.steps) > 1 else rows)
    if hasattr(model, "kneighbors") and model.n_neighbors < len(model._fit_X):
        last, next_one = model.kneighbors(rows, model.n_neighbors + 1)[0][:, -2:].T
        return np.asarray(next_one - last > _TIE * next_one)
    kept = np.ones(len(rows), bool)
    for member, columns in _members(model, rows.shape[1]):
        kept &= _undisputed(member, rows[:, columns])
    return kept


def _span(model: Any) -> tuple[Any, Any] | None:
    """Where the columns lie that a scaler or a discretiser was fitted on; None: it is neither."""
    if getattr(model, "data_min_", None) is not None:
        beyond = 0.1 * (model.data_max_ - model.data_min_)
        return model.data_min_ - beyond, model.data_max_ + beyond
    if getattr(model, "max_abs_", None) is not None:
        return -model.max_abs_, model.max_abs_
    if (edges := getattr(model, "bin_edges_", None)) is not None:
        return np.array([each[0] for each in edges]), np.array([each[-1] for each in edges])
    if (quantiles := getattr(model, "quantiles_", None)) is not None:
        return quantiles[0], quantiles[-1]
    for centre in ("mean_", "center_"):
        middle, scale = getattr(model, centre, None), getattr(model, "scale_", None)
        if middle is not None and scale is not None:
            return middle - 3 * scale, middle + 3 * scale
    return None


def _taken_back(step: Any, rows: Rows) -> Rows:
    """Rows that the step makes such rows of."""
    if isinstance(step, (SimpleImputer, KNNImputer)) and rows.shape[1] == step.n_features_in_:
        return rows
    if not hasattr(step, "inverse_transform"):
        raise _NoWayBackError(f"{type(step).__name__} cannot be undone")
    try:
        return np.asarray(step.inverse_transform(rows), np.float64)
    except (ValueError, TypeError, IndexError) as error:
        raise _NoWayBackError(f"{type(step).__name__} cannot be undone there: {str(error)[:200]}") from error


def _none(features: int) -> Rows:
    return np.empty((0, features))
