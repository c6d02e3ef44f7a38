"""Writes the sample models of the sklearn backend; run by its environment's Python."""

import sys
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import skops.io
import xgboost
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

FOLDER = Path(sys.argv[1])
GENERATOR = np.random.default_rng(0)
FEATURES = GENERATOR.normal(size=(200, 6)).astype(np.float32)
CLASSES = (FEATURES[:, 0] > 0).astype(int) + (FEATURES[:, 1] > 0.5)
GAPS = np.where(GENERATOR.random(FEATURES.shape) < 0.1, np.nan, FEATURES)


def named(name: str) -> Path:
    """A new folder of that name."""
    folder = FOLDER / name
    folder.mkdir(parents=True)
    return folder


def predicted(name: str, inputs: dict, *outputs: object) -> None:
    """Store beside a model what it makes of some inputs, in the order of its outputs."""
    made = {f"out:{index}": np.asarray(each) for index, each in enumerate(outputs)}
    np.savez(FOLDER / f"{name}.npz", **{f"in:{key}": value for key, value in inputs.items()}, **made)


forest = make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)).fit(FEATURES, CLASSES)
skops.io.dump(forest, named("forest") / "model.skops")
ROWS = GENERATOR.normal(size=(9, 6)).astype(np.float32)
predicted("forest", {"input": ROWS}, forest.predict(ROWS), forest.predict_proba(ROWS))
texts = make_pipeline(StandardScaler(), LogisticRegression()).fit(
    FEATURES, np.array(["a", "b", "c"])[CLASSES]
)
skops.io.dump(texts, named("text_labels") / "model.skops")
skops.io.dump(
    GradientBoostingRegressor(n_estimators=10, random_state=0).fit(FEATURES, FEATURES[:, 0]),
    named("regressor") / "model.skops",
)
skops.io.dump(StandardScaler().fit(FEATURES), named("scaler") / "model.skops")
INCOMES = np.stack([GENERATOR.uniform(18, 90, 300), GENERATOR.uniform(1e4, 2e5, 300)], axis=1)
INCOMES[:2, 1] = 49_990, 50_010
RICH = (INCOMES[:, 1] > 50_000) & (INCOMES[:, 0] > 30)
skops.io.dump(
    make_pipeline(DecisionTreeClassifier(max_depth=3, random_state=0)).fit(INCOMES, RICH.astype(int)),
    named("incomes") / "model.skops",
)
joblib.dump(LogisticRegression().fit(FEATURES, CLASSES), named("joblib") / "model.joblib")


class Hostile:
    """Unpickled, it writes the file that the second argument names."""

    def __reduce__(self):
        return exec, (f"open({sys.argv[2]!r}, 'w').write('it was here')",)


joblib.dump(Hostile(), named("hostile_joblib") / "model.joblib")

PROBE = """
import os, socket, sys
def works(act):
    try:
        act()
    except OSError:
        return False
    return True
here = os.environ["CATCHMENT_TASK"]
found = {
    "network": works(lambda: socket.create_connection(("127.0.0.1", PORT), 2)),
    "host": works(lambda: os.listdir(os.path.dirname(CANARY))),
    "job": works(lambda: open(here + "/job.json", "a")),
    "link": works(lambda: os.symlink("/etc/passwd", here + "/output.log")),
    "secret": "CATCHMENT_SECRET_OF_A_TEST" in os.environ,
    "parent": works(lambda: os.kill(os.getppid(), 0)),
    "work": works(lambda: open(here + "/work/x", "w")),
}
raise RuntimeError("probe " + " ".join(f"{name}={int(value)}" for name, value in found.items()))
"""


class Probe:
    """Unpickled, it tries what a child must not be able to do, and tells in an error's words."""

    def __reduce__(self):
        return exec, (PROBE.replace("PORT", sys.argv[3]).replace("CANARY", repr(sys.argv[2])), {})


joblib.dump(Probe(), named("probing_joblib") / "model.joblib")

HOARD = """
import os
number = 0
while True:
    with open(f"{os.environ['TMPDIR']}/{number}", "wb") as file:
        file.write(bytes(1_000_000))
    number += 1
"""


class Hoarder:
    """Unpickled, it writes one file after another where it may."""

    def __reduce__(self):
        return exec, (HOARD, {})


joblib.dump(Hoarder(), named("hoarding_joblib") / "model.joblib")

for name, objective, target, more in (
    ("xgboost_binary", "binary:logistic", CLASSES > 0, {}),
    ("xgboost_classes", "multi:softprob", CLASSES, {"num_class": 3}),
    ("xgboost_values", "reg:squarederror", FEATURES[:, 0], {}),
):
    trees = xgboost.train({"objective": objective, "max_depth": 3, **more}, xgboost.DMatrix(GAPS, target), 5)
    trees.save_model(named(name) / "model.ubj")
    if name == "xgboost_classes":
        scores = trees.predict(xgboost.DMatrix(GAPS[:9]))
        predicted(name, {"input": GAPS[:9]}, scores.argmax(1), scores)
(named("xgboost_registry") / "model.xgboost").write_bytes((FOLDER / "xgboost_binary/model.ubj").read_bytes())

for name, objective, target, more in (
    ("lightgbm_binary", "binary", CLASSES > 0, {}),
    ("lightgbm_classes", "multiclass", CLASSES, {"num_class": 3}),
    ("lightgbm_values", "regression", FEATURES[:, 0], {}),
):
    trees = lightgbm.train(
        {"objective": objective, "verbosity": -1, **more}, lightgbm.Dataset(GAPS, target.copy()), 5
    )
    trees.save_model(named(name) / "model.txt")
    if name == "lightgbm_classes":
        scores = trees.predict(GAPS[:9])
        predicted(name, {"input": GAPS[:9]}, scores.argmax(1), scores)
