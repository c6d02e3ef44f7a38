"""Rows are found where a fitted estimator's answers change, and a right conversion gives the same there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from catchment.formats.convert.backends.sklearn.known_points import Surroundings
from catchment.formats.convert.backends.sklearn.steady import steady
from catchment.formats.convert.comparing import FLOAT32_TOLERANCE
from catchment.formats.convert.samples import KNOWN_SCALE

GENERATOR = np.random.default_rng(7)
PEOPLE = np.stack(
    [GENERATOR.uniform(18, 90, 200), GENERATOR.uniform(1e4, 2e5, 200), GENERATOR.random(200)], axis=1
)
PAYS = ((PEOPLE[:, 1] > 90_000) ^ (PEOPLE[:, 0] > 80)).astype(int)
LOW, HIGH = PEOPLE.min(axis=0), PEOPLE.max(axis=0)
LOGISTIC = LogisticRegression(max_iter=1000)


def found(model: Any, count: int = 64, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    surroundings = Surroundings(np.random.default_rng(seed))
    return surroundings.rows(model.fit(PEOPLE, PAYS), count), surroundings.notes


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(5, random_state=0),
        BaggingClassifier(n_estimators=4, max_features=2, random_state=0),
        BaggingClassifier(SVC(), n_estimators=3, random_state=0),
        AdaBoostClassifier(n_estimators=5, random_state=0),
        HistGradientBoostingClassifier(max_iter=3),
        SVC(),
        KNeighborsClassifier(3),
        GaussianNB(),
        StackingClassifier([("forest", RandomForestClassifier(3, random_state=0)), ("linear", LOGISTIC)]),
        make_pipeline(SimpleImputer(), StandardScaler(), SVC()),
        make_pipeline(StandardScaler(), PCA(2), RandomForestClassifier(5, random_state=0)),
        make_pipeline(StandardScaler(), LOGISTIC),
        make_pipeline(
            ColumnTransformer([("a", StandardScaler(), [0]), ("b", MinMaxScaler(), [1, 2])]), SVC()
        ),
    ],
    ids=lambda model: type(model).__name__ if not hasattr(model, "steps") else "-".join(model.named_steps),
)
def test_rows_lie_where_the_model_was_fitted_and_it_says_different_things_there(model: Any) -> None:
    rows, _ = found(model)
    assert len(rows) >= 32
    assert rows.shape[1] == 3
    far = np.abs((rows - (LOW + HIGH) / 2) / (HIGH - LOW)).max(axis=0)
    assert (far[:2] < 2).all()
    assert len(np.unique(model.predict(rows))) == 2
    np.testing.assert_array_equal(rows, found(model)[0])


def test_every_split_of_a_tree_is_passed_on_both_sides_by_little() -> None:
    model = DecisionTreeClassifier(max_depth=4, random_state=0)
    rows, _ = found(model, 200)
    assert set(model.apply(rows)) == set(np.flatnonzero(model.tree_.feature < 0)), "every leaf is reached"
    for feature, threshold in zip(model.tree_.feature, model.tree_.threshold, strict=True):
        if feature >= 0:
            aside = (rows[:, feature] - threshold) / (HIGH - LOW)[feature]
            assert aside[aside > 0].min() < 0.05
            assert aside[aside < 0].max() > -0.05


def test_a_model_that_has_learned_no_places_has_no_rows() -> None:
    assert found(LOGISTIC) == (pytest.approx(np.empty((0, 3))), [])


def test_a_step_that_cannot_be_undone_is_said_and_what_stands_before_it_is_tried() -> None:
    rows, notes = found(make_pipeline(MinMaxScaler(), PolynomialFeatures(), SVC()))
    assert notes == ["no rows near what SVC has learned were tried: PolynomialFeatures cannot be undone"]
    assert (rows.max(axis=0) > LOW + 0.8 * (HIGH - LOW)).all()
    assert found(make_pipeline(PolynomialFeatures(), SVC()))[0].size == 0


def test_rows_at_which_neighbours_compete_for_the_last_place_are_left_out() -> None:
    neighbours = make_pipeline(StandardScaler(), KNeighborsClassifier(1))
    twins = np.repeat(PEOPLE[:20], [2] * 10 + [1] * 10, axis=0)
    model = VotingClassifier([("near", neighbours)]).fit(twins, [0, 1] * 10 + [1] * 10)
    rows = Surroundings(np.random.default_rng(0)).rows(model, 200)
    scaler, fitted = model.estimators_[0]
    nearest = fitted.kneighbors(scaler.transform(rows), 2)[0]
    assert 50 < len(rows) < 150
    assert (nearest[:, 1] > nearest[:, 0]).all()


def test_rows_whose_answer_hangs_on_a_rounding_or_on_a_tie_are_not_steady() -> None:
    def answer(rows: np.ndarray) -> dict[str, np.ndarray]:
        first = np.where(rows[:, 0] <= 50_000, 0.9, np.where(rows[:, 0] > 90_000, 0.5, 0.2)).astype(
            np.float32
        )
        labels = (first < 0.5).astype(np.int64)
        return {"label": labels, "probabilities": np.stack([first, 1 - first], axis=1)}

    rows = np.float32([[10_000], [50_000], [np.nextafter(np.float32(50_000), np.inf)], [50_100], [95_000]])
    kept, scale = steady(rows, answer, np.random.default_rng(0))
    assert (kept.tolist(), scale) == ([[10_000], [50_100]], KNOWN_SCALE)


def test_a_model_that_is_sensitive_everywhere_keeps_its_rows_and_is_allowed_the_rounding_of_its_input() -> (
    None
):
    def answer(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"variable": ((rows.astype(np.float64) - 2000) * 30).astype(np.float32)}

    rows = np.linspace(1990, 2010, 20, dtype=np.float32)[:, None]
    kept, scale = steady(rows, answer, np.random.default_rng(0))
    assert len(kept) == 20
    one_rounding = 30 * 2010 * 2.0**-23
    assert 2 * one_rounding < FLOAT32_TOLERANCE * (scale + 300) < 8 * one_rounding
