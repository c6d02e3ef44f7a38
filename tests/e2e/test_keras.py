"""A Keras job through real processes, on Keras' torch backend."""

from __future__ import annotations

import os
import subprocess
import sys

from catchment.models.tensors import read_tensors

MODEL = """
import keras

def build():
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax", name="out")])
"""
TRAIN = """
import pathlib
import numpy as np
import catchment.sdk as fl
from model import build

part = "test" if fl.task().kind == "evaluate" else "train"
with np.load(pathlib.Path(fl.get_dataset_path("digits")) / f"{part}.npz") as arrays:
    x, y = arrays["x"], arrays["y"]
model = build()
fl.load_weights(model)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
if part == "train":
    model.fit(x, y, epochs=2, verbose=0)
    fl.commit_weights(model)
loss, accuracy = model.evaluate(x, y, verbose=0)
fl.commit_metrics({"sample_num": len(y), "loss": loss, "accuracy": accuracy})
"""
ENTRY = '{"command": "python", "entry": "train.py"}'
CONFIG = f'{{"train": {ENTRY}, "evaluate": {ENTRY}}}'


def test_a_keras_job_trains_from_a_keras_file(system):
    folder = system.home / "namespaces" / "default" / "keras"
    (folder / "scripts").mkdir(parents=True)
    for name, text in (("model.py", MODEL), ("train.py", TRAIN), ("config.json", CONFIG)):
        (folder / "scripts" / name).write_text(text)
    subprocess.run(
        [sys.executable, "-c", "from model import build; build().save('../initial.keras')"],
        cwd=folder / "scripts",
        env={**os.environ, "KERAS_BACKEND": "torch"},
        check=True,
        timeout=120,
    )
    job_id = system.start(
        id="keras",
        runtime="keras",
        model_path="keras/initial.keras",
        scripts={"path": "keras/scripts", "config_file": "config.json"},
        hyper_parameters={"max_round_num": 2},
    )
    shown = system.wait_for(job_id, timeout_s=120)
    assert shown["status"] == {"state": "FINISHED", "reason": "", "progress": 100}
    checkpoint = shown["checkpoints"]["checkpoint_v1"]
    assert checkpoint["accuracy"] > 0.2
    saved = read_tensors(system.home / "namespaces" / "default" / checkpoint["path"])
    assert sorted(saved) == ["sequential/out/bias", "sequential/out/kernel"]
