"""Writes the sample models of the tensorflow backend; run by its environment's Python."""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

FOLDER, CANARY = Path(sys.argv[1]), sys.argv[2]
keras.utils.set_random_seed(0)


def named(name: str) -> Path:
    """A new folder of that name."""
    folder = FOLDER / name
    folder.mkdir(parents=True)
    return folder


def predicted(name: str, inputs: dict, *outputs: object) -> None:
    """Store beside a model what it makes of some inputs, in the order of its outputs."""
    made = {f"out:{index}": np.asarray(each) for index, each in enumerate(outputs)}
    np.savez(FOLDER / f"{name}.npz", **{f"in:{key}": value for key, value in inputs.items()}, **made)


image = keras.Input((8, 8, 3), name="image")
inner = keras.layers.Conv2D(4, 3, activation="relu")(image)
inner = keras.layers.Flatten()(keras.layers.MaxPooling2D()(keras.layers.BatchNormalization()(inner)))
both = [
    keras.layers.Dense(5, activation="softmax", name="classes")(inner),
    keras.layers.Dense(1, name="score")(inner),
]
model = keras.Model(image, both)
model.save(named("h5") / "model.h5")
model.save(named("keras") / "model.keras")
model.export(str(FOLDER / "saved_model"), verbose=False)
sequence = keras.Sequential(
    [keras.Input((6, 3), name="steps"), keras.layers.LSTM(5), keras.layers.Dense(2, name="ends")]
)
sequence.save(named("lstm") / "model.h5")

function = tf.function(lambda image: model(image))  # noqa: PLW0108 - named so in the graph
concrete = function.get_concrete_function(tf.TensorSpec((None, 8, 8, 3), "float32", name="image"))
frozen = convert_variables_to_constants_v2(concrete)
(named("graph") / "model.graphdef").write_bytes(frozen.graph.as_graph_def().SerializeToString())


images = np.random.default_rng(1).normal(size=(7, 8, 8, 3)).astype(np.float32)
for name in ("h5", "keras", "saved_model", "graph"):
    predicted(name, {"image": images}, *model(images))


def hostile(values: object) -> object:
    """What a Lambda layer might do when it is built or called."""
    with open(CANARY, "w") as file:  # noqa: PTH123
        file.write("it was here")
    return values


lambda_model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(hostile)])
lambda_model.save(named("lambda_h5") / "model.h5")
lambda_model.save(named("lambda_keras") / "model.keras")


class Writer(tf.Module):
    """A SavedModel that writes a file whenever it is called, with operators that every TensorFlow has."""

    @tf.function(input_signature=[tf.TensorSpec((None, 2), "float32", name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Write, then double."""
        tf.io.write_file(CANARY, "it was here")
        return {"y": 2.0 * x}


writer = Writer()
tf.saved_model.save(writer, str(FOLDER / "writing"), signatures={"serving_default": writer.serve})
Path(CANARY).unlink(missing_ok=True)
