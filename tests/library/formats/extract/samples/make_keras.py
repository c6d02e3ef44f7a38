"""Makes keras/model.keras, h5/model.h5 and h5_lambda/model.h5.

Run: KERAS_BACKEND=torch python make_keras.py, with keras 3.15.1 and torch.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
warnings.simplefilter("ignore")

import keras  # noqa: E402 - after the choice of its backend
from keras import layers  # noqa: E402

HERE = Path(__file__).parent
for name in ("keras", "h5", "h5_lambda"):
    (HERE / name).mkdir(exist_ok=True)

left = keras.Input((4,), name="left")
right = keras.Input((2, 3), name="right", dtype="float32")
both = layers.Concatenate(name="both")([left, layers.Flatten(name="flat")(right)])
score = layers.Dense(3, activation="softmax", name="score")(both)
value = layers.Dense(1, name="value")(both)
model = keras.Model([left, right], [score, value], name="two")
model.compile("adam", "mse")
model.save(HERE / "keras" / "model.keras")

sequential = keras.Sequential(
    [keras.Input((4,), name="x"), layers.Dense(3, name="hidden"), layers.Dropout(0.1, name="last")],
    name="line",
)
sequential.save(HERE / "h5" / "model.h5")

# Compiled from a text: a function of this file would carry the file's path into the sample.
twice = eval(compile("lambda x: x * 2", "sample", "eval"))  # noqa: S307
code = keras.Sequential([keras.Input((4,), name="x"), layers.Lambda(twice, name="twice")])
code.save(HERE / "h5_lambda" / "model.h5")
