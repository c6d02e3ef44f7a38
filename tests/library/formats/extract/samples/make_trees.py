"""Makes sklearn/, sklearn_zlib/, skops/, xgboost_json/, xgboost_ubj/, lightgbm/ and mlflow/.

Run: python make_trees.py, with scikit-learn 1.9.1, skops 0.16.0, xgboost-cpu 3.2.0, lightgbm 4.7.0,
mlflow-skinny 3.17.2 and pandas. Six features, three classes.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import skops.io
import xgboost
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
for name in ("sklearn", "sklearn_zlib", "skops", "xgboost_json", "xgboost_ubj", "lightgbm", "mlflow"):
    shutil.rmtree(HERE / name, ignore_errors=True)
    (HERE / name).mkdir()

rng = np.random.default_rng(0)
features = rng.normal(size=(40, 6))
labels = (features[:, 0] * 2 + features[:, 1] > 0).astype(int) + (features[:, 2] > 1)

forest = RandomForestClassifier(n_estimators=2, max_depth=2, random_state=0)
pipeline = Pipeline([("scale", StandardScaler()), ("forest", forest)]).fit(features, labels)
joblib.dump(pipeline, HERE / "sklearn" / "model.joblib", compress=0)
joblib.dump(pipeline, HERE / "sklearn_zlib" / "model.joblib", compress=3)
skops.io.dump(pipeline, HERE / "skops" / "model.skops", compression=zipfile.ZIP_DEFLATED)

names = [f"feature_{i}" for i in range(6)]
data = xgboost.DMatrix(features, labels, feature_names=names)
booster = xgboost.train({"objective": "multi:softprob", "num_class": 3, "max_depth": 2}, data, 3)
booster.save_model(HERE / "xgboost_json" / "model.json")
booster.save_model(HERE / "xgboost_ubj" / "model.ubj")

params = {"objective": "multiclass", "num_class": 3, "num_leaves": 4, "verbose": -1, "min_data_in_leaf": 2}
lightgbm.train(params, lightgbm.Dataset(features, labels, feature_name=names), 2).save_model(
    HERE / "lightgbm" / "model.txt"
)

signature = ModelSignature(
    inputs=Schema([ColSpec(DataType.double, "age"), ColSpec(DataType.string, "town", required=False)]),
    outputs=Schema([TensorSpec(np.dtype("float32"), (-1, 3), "scores")]),
)
model = Model(signature=signature, model_uuid="0" * 32, utc_time_created="2026-01-01 00:00:00")
model.add_flavor(
    "python_function", loader_module="mlflow.sklearn", model_path="model.pkl", python_version="3.11.7"
)
model.add_flavor(
    "sklearn", pickled_model="model.pkl", sklearn_version="1.9.1", serialization_format="cloudpickle"
)
model.save(HERE / "mlflow" / "MLmodel")
